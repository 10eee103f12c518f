"""One module a protocol: features and a task go in, outcomes come out; none knows a model."""
