"""Quantiles and moments of many channels at once, over the places inside a mask."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from retina_fm.network.layers import exporting

_TAILS = 10
_LARGEST_TAIL = 1 / _TAILS


def masked_quantiles(values: Tensor, inside: Tensor, levels: Sequence[float]) -> Tensor:
    """Quantiles of each row over the columns that count.

    Levels up to 0.1 and from 0.9 interpolate linearly between ranks, as ``torch.quantile`` does; 0.5 is the
    lower median. Selecting the tails costs a tenth of a sort, which would take a quarter of the encoder's
    own time. Rows without any valid column are not allowed (``masks`` see to that).

    Args:
        values: ``(N, C, P)``.
        inside: bool ``(N, P)``.
        levels: each at most 0.1, exactly 0.5, or at least 0.9.

    Returns:
        ``(N, C, len(levels))``.
    """
    places = values.shape[-1]
    tail = torch.sym_min(places, places // _TAILS + 2)  # type: ignore[no-untyped-call]
    keep = inside[:, None, :]
    count = inside.sum(-1)  # (N,)
    found: dict[float, Tensor] = {}
    lows = [level for level in levels if level <= _LARGEST_TAIL]
    highs = [level for level in levels if level >= 1 - _LARGEST_TAIL]
    if lows:
        smallest = values.masked_fill(~keep, torch.inf).topk(tail, dim=-1, largest=False).values
        found.update({level: _at_rank(smallest, level * (count - 1)) for level in lows})
    if highs:
        largest = values.masked_fill(~keep, -torch.inf).topk(tail, dim=-1).values
        found.update({level: _at_rank(largest, (1 - level) * (count - 1)) for level in highs})
    if any(level == 0.5 for level in levels):
        found[0.5] = _median(values, keep)
    unknown = [level for level in levels if level not in found]
    if unknown:
        raise ValueError(f"quantile levels {unknown} lie neither in a tail of 10 % nor at 0.5")
    return torch.stack([found[level] for level in levels], dim=-1)


def masked_std(values: Tensor, inside: Tensor) -> Tensor:
    """Standard deviation of each row over the columns that count: ``(N, C, P)`` to ``(N, C)``."""
    weight = inside[:, None, :].to(values.dtype)
    total = weight.sum(-1)
    mean = (values * weight).sum(-1) / total
    variance = ((values - mean[..., None]).square() * weight).sum(-1) / total
    return (variance + 1e-12).sqrt()  # the root's slope at zero would be infinite


def _at_rank(ordered: Tensor, rank: Tensor) -> Tensor:
    """Value at a fractional rank from the ordered end: ``(N, C, K)`` and ``(N,)`` to ``(N, C)``."""
    below = rank.floor().long().clamp(0, ordered.shape[-1] - 1)
    above = rank.ceil().long().clamp(0, ordered.shape[-1] - 1)
    share = (rank - rank.floor())[:, None].to(ordered.dtype)
    channels = ordered.shape[1]
    first = ordered.gather(-1, below[:, None, None].expand(-1, channels, 1))[..., 0]
    second = ordered.gather(-1, above[:, None, None].expand(-1, channels, 1))[..., 0]
    return torch.where(share == 0, first, first + share * (second - first))


def _median(values: Tensor, keep: Tensor) -> Tensor:
    """Lower median of what counts: the rest goes to both ends alike, so that the rank stays fixed."""
    places = values.shape[-1]
    turn = (~keep).cumsum(-1) % 2
    low_turn = places % 2  # which half takes the odd one, so that the rank holds for both
    low, high = (~keep) & (turn == low_turn), (~keep) & (turn != low_turn)
    filled = values.masked_fill(low, -torch.inf).masked_fill(high, torch.inf)
    rank = (places + 1) // 2
    if exporting():  # graphs have no selection by rank
        return filled.topk(rank, dim=-1, largest=False).values[..., -1]
    return filled.kthvalue(rank, dim=-1).values
