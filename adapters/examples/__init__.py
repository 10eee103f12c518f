"""Examples to learn from: labels, draws, splits, views and their variation."""
