"""Random numbers of a batch, by short names and from one source."""

from __future__ import annotations

import math

import torch
from torch import Tensor


class Draws:
    """Draws float32 tensors whose first axis is the batch.

    Attributes:
        generator: on the CPU; it alone decides, so the order of the draws does, too.
        batch: how many.
    """

    def __init__(self, generator: torch.Generator, batch: int) -> None:
        self.generator, self.batch = generator, batch

    def uniform(self, low: float, high: float, *shape: int) -> Tensor:
        """Between two ends, ``(B, *shape)``."""
        return low + (high - low) * torch.rand((self.batch, *shape), generator=self.generator)

    def normal(self, sigma: float, *shape: int) -> Tensor:
        """Of zero mean and this spread, ``(B, *shape)``."""
        return sigma * torch.randn((self.batch, *shape), generator=self.generator)

    def log_uniform(self, low: float, high: float, *shape: int) -> Tensor:
        """Between two positive ends, each doubling as likely as the next, ``(B, *shape)``."""
        return torch.exp(self.uniform(math.log(low), math.log(high), *shape))

    def chance(self, probability: float, *shape: int) -> Tensor:
        """1 with a probability and 0 otherwise, ``(B, *shape)``."""
        return (self.uniform(0, 1, *shape) < probability).float()
