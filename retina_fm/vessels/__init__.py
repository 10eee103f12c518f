"""Vessels: a filter for lines, and the reading of vessels off angiograms."""
