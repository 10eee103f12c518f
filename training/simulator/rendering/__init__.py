"""From prepared eyes to frames: dye, lesions and cameras, on any device."""
