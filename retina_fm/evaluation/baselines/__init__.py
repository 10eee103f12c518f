"""What a model has to beat: features, vessels and networks that need no trained weights."""
