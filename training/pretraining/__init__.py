"""Generative pretraining: presets, the loop, its state, and the way to a weights folder."""
