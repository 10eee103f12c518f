"""What a decoder trains on: varied views with the encoder's maps computed ahead, renewed one by one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from retina_fm.adapters.examples.views import View, scaled, varied
from retina_fm.adapters.segmentation.decoder import MapSource
from retina_fm.pictures import Transform


class Item(NamedTuple):
    """One variation of a photo's view, or of a tile of it.

    Attributes:
        view: ``(3, T, T)`` as the encoder takes it.
        target: coverage ``(C, T, T)``.
        inside: ``(1, T, T)``, 1 in the field of view.
        maps: the encoder's distinct maps of the view, ``(T / stride, T / stride, channels)``: channels last,
            as convolutions in bfloat16 like them; empty where they are not kept.
        centres: ``(K, 2)`` rows and columns of foreground to cut round.
    """

    view: Tensor
    target: Tensor
    inside: Tensor
    maps: tuple[Tensor, ...]
    centres: np.ndarray


class ItemMaker:
    """Photos in, items out, in an order that passes every photo once a round."""

    def __init__(
        self,
        views: Sequence[View],
        targets: Sequence[np.ndarray],
        transform: Transform,
        tile: int,
        source: MapSource,
        *,
        seed: int,
        augment: bool,
        keep_maps: bool,
        map_dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        self.views, self.targets = views, targets
        self.transform, self.tile, self.source = transform, tile, source
        self.augment, self.keep_maps = augment, keep_maps
        self.map_dtype, self.device = map_dtype, device
        self.random = np.random.Generator(np.random.PCG64([seed, 2]))
        self._order: list[int] = []

    def bytes_an_item(self) -> int:
        """Memory of one item with its maps."""
        shapes = zip(self.source.channels, (1, 2, 4, 8, 16), strict=True)
        numbers = sum(channels * (self.tile // stride) ** 2 for channels, stride in shapes)
        return (
            int(numbers + self.source.guides * self.tile**2) * self.map_dtype.itemsize + 4 * 5 * self.tile**2
        )

    def next(self) -> Item:
        """The next photo's item, freshly varied."""
        if not self._order:
            self._order = self.random.permutation(len(self.views)).tolist()
        return self.make(self._order.pop(), vary=self.augment)

    def make(self, index: int, *, vary: bool) -> Item:
        """An item of one photo."""
        photo = self.views[index]
        view = torch.from_numpy(photo.pixels).permute(2, 0, 1).float() / 255
        target = torch.from_numpy(self.targets[index])
        inside = torch.from_numpy(photo.inside)[None].float()
        if vary:
            view, target, inside = varied(view, target, inside, self.random)
        if view.shape[1] > self.tile:
            view, target, inside = self._cut(view, target, inside)
        view = scaled(view[None], self.transform)[0]
        maps: tuple[Tensor, ...] = ()
        if self.keep_maps:
            found = encoded(self.source, view[None].to(self.device))
            maps = tuple(m[0].permute(1, 2, 0).to(self.map_dtype).contiguous() for m in found)
        return Item(view, target, inside, maps, self._centres(target * inside))

    def _cut(self, view: Tensor, target: Tensor, inside: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        highest = view.shape[1] - self.tile
        top, left = (int(v) for v in self.random.integers(0, highest + 1, 2))
        centres = self._centres(target * inside)
        if len(centres) and self.random.random() < 0.5:
            row, column = centres[self.random.integers(len(centres))]
            jitter = self.random.integers(-self.tile // 4, self.tile // 4 + 1, 2)
            top = int(np.clip(row - self.tile // 2 + jitter[0], 0, highest))
            left = int(np.clip(column - self.tile // 2 + jitter[1], 0, highest))
        rows, columns = slice(top, top + self.tile), slice(left, left + self.tile)
        return view[:, rows, columns], target[:, rows, columns], inside[:, rows, columns]

    def _centres(self, target: Tensor) -> np.ndarray:
        foreground = target[0] if len(target) == 1 else target[1:].amax(0)
        found = np.argwhere(foreground.numpy() > 0.5)
        return found if len(found) <= 4096 else found[self.random.choice(len(found), 4096, replace=False)]


@torch.no_grad()
def encoded(source: MapSource, views: Tensor) -> tuple[Tensor, ...]:
    """The encoder's maps without gradients."""
    return source.maps(views)


class Crops(NamedTuple):
    """A batch for the decoder: crops of items and of their maps."""

    view: Tensor
    target: Tensor
    inside: Tensor
    maps: tuple[Tensor, ...]


def crop_batch(items: Sequence[Item], count: int, side: int, random: np.random.Generator) -> Crops:
    """Crops of random items, half of them round foreground, corners on multiples of 16."""
    tile = items[0].view.shape[1]
    side = min(side, tile)
    cut: list[tuple[Item, int, int]] = []
    for number in range(count):
        item = items[int(random.integers(len(items)))]
        top, left = (int(v) for v in random.integers(0, tile - side + 1, 2))
        if number % 2 == 0 and len(item.centres):
            row, column = item.centres[random.integers(len(item.centres))]
            shift = random.integers(-side // 3, side // 3 + 1, 2)
            top, left = int(row - side // 2 + shift[0]), int(column - side // 2 + shift[1])
        top, left = (int(np.clip(v, 0, tile - side)) // 16 * 16 for v in (top, left))
        cut.append((item, top, left))

    def joined(name: str) -> Tensor:
        return torch.stack(
            [getattr(item, name)[:, top : top + side, left : left + side] for item, top, left in cut]
        )

    def joined_maps(index: int) -> Tensor:
        stride = tile / items[0].maps[index].shape[0]
        span = max(1, round(side / stride))
        corners = [(item.maps[index], round(top / stride), round(left / stride)) for item, top, left in cut]
        parts = [whole[first : first + span, second : second + span] for whole, first, second in corners]
        return torch.stack(parts).permute(0, 3, 1, 2)

    maps = tuple(joined_maps(index) for index in range(len(items[0].maps)))
    view = joined("view").contiguous(memory_format=torch.channels_last)
    return Crops(view, joined("target"), joined("inside"), maps)
