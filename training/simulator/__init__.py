"""Simulated angiograms: drawn retinas, prepared eyes, and their rendering."""
