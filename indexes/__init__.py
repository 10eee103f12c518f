"""Persistent similarity search over embeddings."""
