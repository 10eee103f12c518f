"""Figures of merit, their intervals and the agreement of raters."""
