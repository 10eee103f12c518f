"""What a run learns from: samples, streams of them, and checks before hours are spent."""
