"""Heads over plain embeddings: linear, MLP, neighbours."""
