"""Files, tables and worker processes: what every room writes and works with."""
