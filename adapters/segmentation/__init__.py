"""A decoder over an encoder's maps: what it learns from, how, and what it predicts."""
