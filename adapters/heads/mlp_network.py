"""The MLP head as a plain module, with soft attention over encoders in front where there are several."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class SoftAttention(nn.Module):
    """Fuse embeddings of several encoders with weights of each picture's own.

    Every encoder's part is projected to a common width; a score a projection, softmax over encoders, and the
    weighted sum goes on.
    """

    def __init__(self, widths: Sequence[int], common: int) -> None:
        super().__init__()
        self.widths = list(widths)
        self.projections = nn.ModuleList(
            nn.Sequential(nn.Linear(width, common), nn.LayerNorm(common)) for width in widths
        )
        self.scores = nn.ModuleList(
            nn.Sequential(nn.Linear(width, common), nn.Tanh(), nn.Linear(common, 1)) for width in widths
        )

    def forward(self, embeddings: Tensor) -> tuple[Tensor, Tensor]:
        """``(N, sum of widths)`` to fused ``(N, common)`` and weights ``(N, encoders)``."""
        parts = torch.split(embeddings, self.widths, dim=1)
        projected = torch.stack([layer(part) for layer, part in zip(self.projections, parts, strict=True)], 1)
        scores = torch.cat([layer(part) for layer, part in zip(self.scores, parts, strict=True)], 1)
        weights = scores.softmax(1)
        return (projected * weights[:, :, None]).sum(1), weights


class MLP(nn.Module):
    """Standardise, fuse where there are several encoders, one hidden layer, logits.

    Attributes:
        mean, scale: ``(D,)`` buffers of the standardisation.
        attention: soft attention over encoders, or None for one.
        layers: the head itself.
    """

    mean: Tensor
    scale: Tensor

    def __init__(
        self,
        widths: Sequence[int],
        outputs: int,
        *,
        hidden: int = 256,
        common: int = 256,
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(sum(widths)))
        self.register_buffer("scale", torch.ones(sum(widths)))
        self.attention = SoftAttention(widths, common) if len(widths) > 1 else None
        width = common if len(widths) > 1 else widths[0]
        self.layers = nn.Sequential(
            nn.Linear(width, hidden), nn.GELU(), nn.Dropout(dropout), nn.Linear(hidden, outputs)
        )

    def forward(self, embeddings: Tensor) -> Tensor:
        """``(N, D)`` to logits ``(N, outputs)``."""
        logits: Tensor = self.layers(self.fused(embeddings)[0])
        return logits

    def fused(self, embeddings: Tensor) -> tuple[Tensor, Tensor]:
        """What the head sees ``(N, common or D)``, and the attention weights ``(N, encoders)``."""
        standard = (embeddings - self.mean) / self.scale
        if self.attention is None:
            return standard, torch.ones_like(standard[:, :1])
        fused: tuple[Tensor, Tensor] = self.attention(standard)
        return fused
