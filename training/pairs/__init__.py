"""Paired videos on disk: their table, and the registration of frames onto photographs."""
