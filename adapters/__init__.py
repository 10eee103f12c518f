"""Heads, decoders and few-shot protocols on frozen or fine-tuned encoders."""
