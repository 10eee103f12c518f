"""What a run minimises: terms, discriminators, and the pass that joins them."""
