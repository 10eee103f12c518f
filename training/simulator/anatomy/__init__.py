"""Drawn retinas: anatomy, vessels, lesions and colours, with the truth about every pixel."""
