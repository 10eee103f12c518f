"""A trained decoder over a whole view: tiles blended, flips averaged, probabilities back in the photo."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from retina_fm.adapters.examples.views import View, scaled, tile_weight, tiles
from retina_fm.adapters.segmentation.decoder import MapSource
from retina_fm.adapters.segmentation.items import encoded
from retina_fm.metrics import scores
from retina_fm.pictures import Transform

_FLIPS: tuple[tuple[int, ...], ...] = ((), (-1,), (-2,), (-2, -1))
_GRID = np.linspace(0.05, 0.95, 37)


@torch.no_grad()
def view_probabilities(
    decoder: nn.Module,
    source: MapSource,
    view: View,
    transform: Transform,
    tile: int,
    *,
    flips: bool,
    device: torch.device,
) -> np.ndarray:
    """Probabilities ``float32 (C, S, S)`` in a view; C is 1 for two classes.

    Outside the field of view the background is certain.
    """
    decoder.eval()
    pixels = torch.from_numpy(view.pixels).permute(2, 0, 1)[None].float() / 255
    whole = scaled(pixels, transform).to(device)
    size = whole.shape[2]
    total: Tensor | None = None
    weight = whole.new_zeros(1, size, size)
    blend = tile_weight(tile).to(device) if size > tile else whole.new_ones(tile, tile)
    reduced = source.encoder.dtype == torch.bfloat16
    for rows, columns in tiles(size, tile):
        part = whole[:, :, rows, columns]
        for flip in _FLIPS if flips else _FLIPS[:1]:
            turned = part.flip(flip) if flip else part
            with torch.autocast(device.type, torch.bfloat16, enabled=reduced):
                logits = decoder(turned, encoded(source, turned)).float()
            found = logits.sigmoid() if logits.shape[1] == 1 else logits.softmax(1)
            found = found.flip(flip) if flip else found
            if total is None:
                total = whole.new_zeros(found.shape[1], size, size)
            total[:, rows, columns] += found[0] * blend
            weight[:, rows, columns] += blend
    assert total is not None
    probability = (total / weight).cpu().numpy()
    probability[:, ~view.inside] = 0
    if len(probability) > 1:
        probability[0, ~view.inside] = 1
    return np.asarray(probability)


def photo_probabilities(probability: np.ndarray, view: View) -> np.ndarray:
    """A view's probabilities in the photo: ``float32 (H, W)``, or ``(H, W, C)`` for several classes."""
    layers = [
        view.geometry.picture_of(layer, "bilinear", fill=1.0 if index == 0 and len(probability) > 1 else 0.0)
        for index, layer in enumerate(probability)
    ]
    stacked = np.stack(layers, axis=-1).astype(np.float32)
    return stacked[..., 0] if stacked.shape[2] == 1 else stacked


def best_threshold(probabilities: Sequence[np.ndarray], wanted: Sequence[np.ndarray]) -> float:
    """The threshold of the highest Dice over pixels of all pictures together.

    Args:
        probabilities: float arrays.
        wanted: bool arrays of the same shapes.
    """
    pictures = [(one, two, None) for one, two in zip(probabilities, wanted, strict=True)]
    return scores.best_threshold(pictures, _GRID, together=True)
