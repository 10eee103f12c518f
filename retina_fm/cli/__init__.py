"""The ``retina-fm`` command: one small file a subcommand, nothing but arguments and printing."""
