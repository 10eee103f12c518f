"""What timm's callers ask of a model, answered by the encoder.

Sources: timm's documentation of feature extraction, and the methods that its own models have in common.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from retina_fm.errors import ConfigError, ViewError
from retina_fm.network.architecture import DOWNSAMPLINGS, STRIDES, Architecture
from retina_fm.network.feature_map import FeatureMap
from retina_fm.network.features import Features
from retina_fm.network.layers import NORM_EPS, TRUNK_LAYERS
from retina_fm.network.masks import field_of_view
from retina_fm.network.views import check_view, crop_to, pad_to_stride

Run = Callable[..., Any]
_FORMATS = ("NCHW", "NHWC", "NLC")


class TimmContract(nn.Module):
    """timm's methods over a trunk of five maps; a base class of :class:`~retina_fm.network.Encoder`.

    Attributes:
        head: classifier over the embedding, an identity without classes.
        num_classes: that it tells apart, 0 without one.
        global_pool: ``"fitted"``, or ``""`` where the head is to pass the last map on unpooled.
        head_hidden_size: length of what the classifier takes, the embedding's.
        grad_checkpointing: whether the backward pass computes maps again instead of keeping them.
        pruned: whether :meth:`prune_intermediate_layers` left nothing but maps.
    """

    if TYPE_CHECKING:
        architecture: Architecture
        model: nn.Sequential
        num_features: int

        @property
        def dtype(self) -> torch.dtype:
            """Given by the encoder."""
            ...

        def features(self, view: Tensor, mask: Tensor | None = None) -> Features:
            """Given by the encoder."""
            ...

    grad_checkpointing = False
    pruned = False
    num_classes = 0
    global_pool = "fitted"
    head: nn.Module

    @property
    def head_hidden_size(self) -> int:
        """Length of an embedding."""
        return self.architecture.embedding

    def forward_features(self, view: Tensor) -> FeatureMap | Tensor:
        """First step: the last map ``(N, C, H / 16, W / 16)``, which carries the embeddings for the second.

        An encoder whose layers were pruned gives its last map alone.
        """
        if self.pruned:
            last: Tensor = self.forward_intermediates(view, 1, intermediates_only=True)[0]
            return last
        found = self.features(view)
        return FeatureMap.carrying(found.maps[-1], found.pooled)

    def forward_head(self, x: Tensor | Features, pre_logits: bool = False) -> Tensor:
        """Second step: logits ``(N, K)``, or embeddings ``(N, D)`` without a classifier or ``pre_logits``.

        Args:
            x: what :meth:`forward_features` gave, or :class:`Features`.
            pre_logits: leave the classifier out.

        Raises:
            ViewError: a plain map, which does not say what its picture's embedding is.
        """
        if self.global_pool == "":
            return x.maps[-1] if isinstance(x, Features) else x.as_subclass(Tensor)
        pooled = getattr(x, "pooled", None)
        if pooled is None:
            raise ViewError(
                f"A map {tuple(x.shape)} alone does not give an embedding: maps are pooled before their "  # type: ignore[union-attr]
                "normalisation. Pass on what forward_features gave, unchanged, or call features(view)."
            )
        logits: Tensor = pooled if pre_logits else self.head(pooled)
        return logits

    def get_classifier(self, name_only: bool = False) -> nn.Module | str:
        """The classifier, or the name of its module."""
        return "head" if name_only else self.head

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """A new classifier over the embedding, on the encoder's device; 0 classes take it away.

        Raises:
            ConfigError: a pooling that is neither ``"fitted"`` nor ``""``, or classes without pooling.
        """
        pool = self.global_pool if global_pool is None else global_pool
        if pool not in ("fitted", ""):
            raise ConfigError(
                f"global_pool is {pool!r}; an embedding is pooled in the 'fitted' way, or '' passes maps on."
            )
        if pool == "" and num_classes:
            raise ConfigError("A classifier takes embeddings; global_pool='' goes with num_classes=0.")
        self.global_pool, self.num_classes = pool, num_classes
        place = next(self.parameters()).device
        self.head = (
            nn.Linear(self.head_hidden_size, num_classes, device=place) if num_classes else nn.Identity()
        )

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Trade time for memory in training: the backward pass computes each stage's inside again."""
        self.grad_checkpointing = enable

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Patterns of parameter names for timm's layer-wise learning rates, from the stem on.

        Args:
            coarse: one group a stride instead of one a layer.
        """
        blocks: Any = r"^model\.(\d+)\."
        if coarse:
            last = [str(TRUNK_LAYERS + index) for index in range(self.architecture.encoder_blocks)]
            stages = [rf"^model\.{4 + 3 * level}\." for level in range(DOWNSAMPLINGS - 1)]
            stages.append(rf"^model\.({'|'.join([str(TRUNK_LAYERS - 3), *last])})\.")
            blocks = [(pattern, (number,)) for number, pattern in enumerate(stages)]
        return {"stem": r"^model\.1\.", "blocks": blocks}

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | Sequence[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> Any:
        """The maps that were asked for, and the last one.

        Args:
            x: view ``(N, 3, H, W)``.
            indices: positions among the five maps, negative ones from the end; a number takes the last so
                many; None takes all.
            norm: instance-normalise the last map too; the others are normalised already.
            stop_early: compute nothing beyond the deepest map that was asked for.
            output_fmt: ``"NCHW"``, ``"NHWC"`` or ``"NLC"`` (places in one axis).
            intermediates_only: the maps alone.

        Returns:
            A list of maps; without ``intermediates_only`` a pair of the last computed map, which carries the
            embeddings unless ``stop_early`` ended before them, and that list.

        Raises:
            ViewError: a wrong view; ConfigError: a position or format that does not exist.
        """
        if output_fmt not in _FORMATS:
            raise ConfigError(f"output_fmt is {output_fmt!r}; use one of {', '.join(_FORMATS)}.")
        wanted = take_indices(self._levels, indices)
        check_view(x)
        height, width = x.shape[2:]
        deepest = max(wanted) if stop_early or intermediates_only else self._levels - 1
        whole = not self.pruned and not intermediates_only and deepest == self._levels - 1
        pooled: Tensor | None = None
        if whole:
            found = self.features(x)
            pooled, maps = found.pooled, dict(enumerate(found.maps))
        else:
            view, _ = pad_to_stride(x, field_of_view(x))
            levels = enumerate(self._walk(view.to(self.dtype)))
            maps = {}
            for level, kept in levels:
                maps[level] = crop_to(kept, STRIDES[level], height, width)
                if level == deepest:
                    break
        last = maps[deepest]
        if norm and deepest == DOWNSAMPLINGS:
            maps[deepest] = F.instance_norm(last, eps=NORM_EPS)
        chosen = [_formatted(maps[level], output_fmt) for level in wanted]
        if intermediates_only:
            return chosen
        return (last if pooled is None else FeatureMap.carrying(last, pooled)), chosen

    def prune_intermediate_layers(
        self,
        indices: int | Sequence[int] = 1,
        prune_norm: bool = False,  # noqa: ARG002  there is no final norm to take away
        prune_head: bool = True,
    ) -> list[int]:
        """Take away what the maps asked for do not need; afterwards only maps can be had.

        Args:
            indices: as in :meth:`forward_intermediates`.
            prune_norm: nothing here.
            prune_head: take away lesion maps and pooling as well where no layer goes.

        Returns:
            The positions, none negative.
        """
        wanted = take_indices(self._levels, indices)
        deepest = max(wanted)
        shortened = deepest < self._levels - 1
        if shortened:
            self.model = nn.Sequential(*list(self.model)[: 4 + 3 * deepest])
            self.num_features = self.architecture.channels[deepest]
        if prune_head or shortened:
            for name in ("lesion_heads", "lesion_decoder", "pooling"):
                setattr(self, name, None)
            self.pruned = True
            self.reset_classifier(0, "")
        return wanted

    @property
    def _levels(self) -> int:
        return min((len(self.model) - 1) // 3, DOWNSAMPLINGS + 1)

    def _walk(self, view: Tensor) -> Iterator[Tensor]:
        raise NotImplementedError


def take_indices(count: int, indices: int | Sequence[int] | None) -> list[int]:
    """Positions among ``count`` maps, none negative, from what timm's callers pass.

    Raises:
        ConfigError: a position that does not exist, or none.
    """
    if indices is None:
        return list(range(count))
    if isinstance(indices, int):
        if not 0 < indices <= count:
            raise ConfigError(f"The last {indices} maps were asked for; there are {count}.")
        return list(range(count - indices, count))
    taken = [index + count if index < 0 else index for index in indices]
    wrong = [index for index, place in zip(indices, taken, strict=True) if not 0 <= place < count]
    if wrong or not taken:
        raise ConfigError(f"Maps {wrong or 'none'} were asked for; there are maps 0 to {count - 1}.")
    return taken


def again_in_backward(run: Run, enabled: bool) -> Run:
    """``run``, its inside computed again in the backward pass where that is enabled and gradients are on."""
    if not (enabled and torch.is_grad_enabled()):
        return run
    return lambda *inputs: checkpoint(run, *inputs, use_reentrant=False)


def _formatted(maps: Tensor, output_fmt: str) -> Tensor:
    if output_fmt == "NHWC":
        return maps.permute(0, 2, 3, 1)
    return maps.flatten(2).transpose(1, 2) if output_fmt == "NLC" else maps
