"""Simulated angiograms, paired videos and generative pretraining."""
