"""How well a run does while it runs: held-back videos, vessels and probes."""
