"""Weights that come with the project, one folder a model."""
