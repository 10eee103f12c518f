"""Whether a network is being written down as a graph, where sizes are symbols."""

from __future__ import annotations

import torch


def exporting() -> bool:
    """True inside ``torch.export`` (and so inside ONNX export), False in eager and compiled runs."""
    asked = getattr(torch.compiler, "is_exporting", None)  # from torch 2.7
    return bool(asked()) if asked is not None else False
