"""The encoder: a view in, pooled embedding, multiscale maps and lesion maps out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from retina_fm.errors import ViewError
from retina_fm.network import pooling
from retina_fm.network.architecture import DOWNSAMPLINGS, STRIDES, Architecture
from retina_fm.network.colour_texture import colour_texture
from retina_fm.network.features import FeatureInfo, Features
from retina_fm.network.layers import TRUNK_LAYERS, trunk_layers
from retina_fm.network.lesion_decoder import COARSE_STRIDE, LesionDecoder
from retina_fm.network.masks import field_of_view
from retina_fm.network.timm_contract import TimmContract, again_in_backward
from retina_fm.network.views import as_batch, check_view, crop_to, pad_to_stride, warn_of_levels


def run_trunk(
    layers: nn.Sequential, view: Tensor, blocks: int, *, again: bool = False
) -> Iterator[tuple[Tensor | None, Tensor]]:
    """Run stem, downsamplings and residual blocks, level by level.

    Args:
        layers: of the trunk; a pruned one ends after fewer levels.
        view: what the stem takes.
        blocks: residual blocks to run at the last level.
        again: whether the backward pass computes each stage's inside again instead of keeping it.

    Yields:
        For each of the five levels the map before its normalisation (None for the last level, which goes
        on through the residual blocks) and the map after its ReLU or after the blocks.
    """

    def stage(maps: Tensor, first: int) -> tuple[Tensor, Tensor]:
        raw = layers[first](layers[0](maps) if first == 1 else maps)
        return raw, layers[first + 2](layers[first + 1](raw))

    maps = view
    levels = min((len(layers) - 1) // 3, DOWNSAMPLINGS + 1)
    for level in range(levels):
        raw, maps = again_in_backward(stage, again)(maps, 1 + 3 * level)
        if level < DOWNSAMPLINGS:
            yield raw, maps
    if levels > DOWNSAMPLINGS:
        for index in range(TRUNK_LAYERS, TRUNK_LAYERS + blocks):
            maps = again_in_backward(layers[index], again)(maps)
        yield None, maps


class LesionHeads(nn.Module):
    """1x1 convolutions that read lesion maps off the encoder's maps at strides 4 and 8."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        count = len(architecture.lesions)
        self.stride4 = nn.Conv2d(architecture.channels[2], count, 1)
        self.stride8 = nn.Conv2d(architecture.channels[3], count, 1)

    def forward(self, at4: Tensor, at8: Tensor) -> tuple[Tensor, Tensor]:
        """Logits ``(N, L, H / 4, W / 4)`` and ``(N, L, H / 8, W / 8)``."""
        return self.stride4(at4), self.stride8(at8)


def lesion_probabilities(at4: Tensor, at8: Tensor) -> Tensor:
    """The two heads' logits joined into one map of probabilities at stride 4."""
    fine = F.interpolate(at8.float(), size=at4.shape[2:], mode="bilinear", align_corners=False)
    return ((at4.float() + fine) / 2).sigmoid()


class Encoder(TimmContract):
    """Encoder of Fundus2Video over a photo's view.

    The generator sees six channels: the photo and the last three frames. At the first step of a video there
    are none, and the photo stands in for them; so the encoder of a photo is ``E([photo, photo])``, and the
    stem of six channels folds exactly into one of three (the sum of its halves).

    Attributes:
        architecture: the numbers that fix its shape.
        model: trunk, keyed as in the public pix2pixHD layout.
        lesion_heads: dense lesion predictors, or None.
        lesion_decoder: the generator's decoder of lesion and vessel maps, or None.
        pooling: statistics to embeddings.
        feature_info: channels, strides and modules of the maps, as timm gives them.
        num_features: length D of an embedding (``feature_info`` has the maps' channels).
        levels_seen: whether a view's range of values was looked at; the first one's is.
    """

    levels_seen = False

    def __init__(self, architecture: Architecture | None = None) -> None:
        super().__init__()
        self.architecture = architecture or Architecture()
        self.model = nn.Sequential(*trunk_layers(self.architecture, in_channels=3))
        self.lesion_heads = LesionHeads(self.architecture) if self.architecture.lesions else None
        self.lesion_decoder = LesionDecoder(self.architecture) if self.architecture.lesion_decoder else None
        self.pooling = pooling.Pooling(self.architecture)
        ends = [3 * level + 3 for level in range(DOWNSAMPLINGS)]
        ends.append(TRUNK_LAYERS + self.architecture.encoder_blocks - 1)
        modules = [f"model.{index}" for index in ends]
        self.feature_info = FeatureInfo(self.architecture.channels, STRIDES, modules)
        self.head: nn.Module = nn.Identity()
        self.num_features = self.architecture.embedding

    def forward(self, view: Tensor, mask: Tensor | None = None) -> Features:
        """All features of a batch of views.

        Args:
            view: float ``(N, 3, H, W)`` in [-1, 1], -1 outside the field of view, as ``transform`` gives it;
                a single ``(3, H, W)`` is a batch of one. Sizes that 16 does not divide are padded, and the
                maps cropped back to ``ceil(H / stride)``.
            mask: field of view, bool ``(N, H, W)``; without it, where the view is not -1 in all channels.

        Returns:
            ``Features``: pooled ``(N, D)`` float32, five maps at strides 1 to 16, and lesion probabilities
            ``(N, L, H / 4, W / 4)`` (``(N, L, H, W)`` with a lesion decoder) or None.

        Raises:
            ViewError: the view or the mask has a wrong rank, type or size, or the encoder was pruned.

        Warns:
            ViewWarning: the first views are those of another range, such as [0, 1].
        """
        return self.features(view, mask)

    def features(self, view: Tensor, mask: Tensor | None = None) -> Features:
        """The same as calling the encoder; every registered model has this name."""
        view = as_batch(view)
        statistics, maps, lesions, _ = self._run(view, mask, keep_maps=True)
        height, width = view.shape[2:]
        cropped = tuple(crop_to(m, s, height, width) for m, s in zip(maps, STRIDES, strict=True))
        dense = None if lesions is None else crop_to(lesions[0], lesions[1], height, width)
        return Features(self.pooling(statistics), cropped, dense)

    @property
    def dtype(self) -> torch.dtype:
        """Number type that the trunk computes in."""
        return next(self.model.parameters()).dtype

    def maps(self, view: Tensor) -> tuple[Tensor, ...]:
        """The five maps alone, without any pooling: what a decoder needs.

        Raises:
            ViewError: the view has a wrong rank, type or size, or a side that 16 does not divide.
        """
        view = as_batch(view)
        check_view(view)
        if view.shape[2] % STRIDES[-1] or view.shape[3] % STRIDES[-1]:
            raise ViewError(
                f"The view has {view.shape[2]} x {view.shape[3]} pixels; decoders need sides that "
                f"{STRIDES[-1]} divides. Pad it with -1 and crop the result."
            )
        view = view.to(self.dtype)
        return tuple(self._walk(view))

    def _walk(self, view: Tensor) -> Iterator[Tensor]:
        again = self.grad_checkpointing
        trunk = run_trunk(self.model, view, self.architecture.encoder_blocks, again=again)
        return (maps for _, maps in trunk)

    @property
    def sees_vessels(self) -> bool:
        """Whether :meth:`vessels` has a map to give."""
        return self.lesion_decoder is not None and self.architecture.vessels

    def vessels(self, maps: Sequence[Tensor]) -> Tensor:
        """Vessel probabilities ``(N, 1, H, W)`` from what :meth:`maps` gave.

        Raises:
            ViewError: the encoder has no vessel map.
        """
        if self.lesion_decoder is None or not self.architecture.vessels:
            raise ViewError("This encoder predicts no vessel map: ask encoder.sees_vessels first.")
        count = len(self.architecture.lesions)
        logits: Tensor = self.lesion_decoder(maps)[:, count : count + 1]
        return logits.float().sigmoid()

    def vessels_at_stride_2(self, view: Tensor) -> Tensor:
        """Vessel probabilities ``(N, H / s, W / s)`` of a view, s as in :meth:`embed_with_vessels`.

        Raises:
            ViewError: the encoder has no vessel map, or the view does not fit.
        """
        maps = self.maps(view)
        if self.lesion_decoder is None or self.lesion_decoder.coarse is None:
            return self.vessels(maps)[:, 0]
        count = len(self.architecture.lesions)
        return self.lesion_decoder.at_stride_2(maps)[:, count].float().sigmoid()

    def dense_maps(self, maps: Sequence[Tensor]) -> dict[str, Tensor]:
        """All that the decoder maps, from what :meth:`maps` gave, in one pass of the decoder.

        Returns:
            Probabilities ``(N, H, W)`` by name: the lesion types, ``vessel`` where it is mapped, and the
            parts of the architecture's anatomy.

        Raises:
            ViewError: the encoder has no decoder.
        """
        if self.lesion_decoder is None:
            raise ViewError("This encoder has no decoder of maps: see encoder.architecture.lesion_decoder.")
        named = (*self.architecture.lesions, *("vessel",) * self.architecture.vessels)
        layers = self.lesion_decoder(maps).float().sigmoid()
        return dict(zip((*named, *self.architecture.anatomy), layers.unbind(1), strict=True))

    def anatomy(self, maps: Sequence[Tensor]) -> Tensor:
        """Probabilities ``(N, A, H, W)`` of the architecture's anatomy from what :meth:`maps` gave.

        Raises:
            ViewError: the encoder maps no anatomy.
        """
        if self.lesion_decoder is None or not self.architecture.anatomy:
            raise ViewError(
                "This encoder maps no arteries, veins, disc or fovea: see encoder.architecture.anatomy."
            )
        logits: Tensor = self.lesion_decoder(maps)[:, -len(self.architecture.anatomy) :]
        return logits.float().sigmoid()

    def embed(self, view: Tensor, mask: Tensor | None = None) -> Tensor:
        """Embeddings ``(N, D)`` alone, equal to ``forward(view).pooled``, without keeping any map."""
        embeddings: Tensor = self.pooling(self.statistics(view, mask))
        return embeddings

    def embed_with_vessels(self, view: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Embeddings ``(N, D)`` and vessel probabilities ``(N, H / s, W / s)`` from one pass.

        The stride s is 2 where the decoder has coarse maps, else 1.

        Raises:
            ViewError: the encoder has no vessel map.
        """
        statistics, _, _, vessels = self._run(view, mask, keep_maps=False)
        if vessels is None:
            raise ViewError("This encoder predicts no vessel map: ask encoder.sees_vessels first.")
        logits, stride = vessels
        return self.pooling(statistics), crop_to(logits, stride, *view.shape[2:])[:, 0].float().sigmoid()

    def statistics(self, view: Tensor, mask: Tensor | None = None) -> Tensor:
        """Pooled statistics ``(N, F)`` before the linear map; ``pooling.blocks`` names their parts."""
        return self._run(view, mask, keep_maps=False)[0]

    def _run(
        self, view: Tensor, mask: Tensor | None, *, keep_maps: bool
    ) -> tuple[Tensor, list[Tensor], tuple[Tensor, int] | None, tuple[Tensor, int] | None]:
        """Statistics, maps if they are kept, lesion probabilities and vessel logits with their strides."""
        if self.pruned:
            raise ViewError(
                "The encoder was pruned to its maps and has no embedding; call forward_intermediates, or "
                "load it again."
            )
        view = as_batch(view)
        check_view(view, mask)
        if not torch.compiler.is_compiling() and not self.levels_seen:
            self.levels_seen = warn_of_levels(view)
        view, mask = pad_to_stride(view, field_of_view(view) if mask is None else mask)
        colour = colour_texture(view, mask) if self.architecture.colour else None
        view = view.to(self.dtype)
        spacing = self.architecture.spacing
        blocks: list[Tensor] = []
        kept: list[Tensor] = []
        heads_read: list[Tensor] = []
        again = self.grad_checkpointing
        trunk = run_trunk(self.model, view, self.architecture.encoder_blocks, again=again)
        for level, (raw, maps) in enumerate(trunk):
            if raw is not None:
                blocks.append(pooling.raw_statistics(raw, mask, STRIDES[level], spacing))
            else:
                blocks.append(pooling.spread(maps, mask))
            if keep_maps or self.lesion_decoder is not None:
                kept.append(maps)
            if STRIDES[level] in pooling.LESION_STRIDES:
                heads_read.append(maps)
        lesions = vessels = anatomy = None
        if self.lesion_heads is not None:
            logits = self.lesion_heads(*heads_read)
            pairs = zip(logits, pooling.LESION_STRIDES, strict=True)
            parts = [pooling.lesion_statistics(head, mask, stride) for head, stride in pairs]
            blocks.append(torch.cat(parts, dim=-1))
            lesions = lesion_probabilities(*logits), pooling.LESION_STRIDES[0]
        if self.lesion_decoder is not None:
            decoder, count = self.lesion_decoder, len(self.architecture.lesions)
            fine = coarse = None
            if decoder.coarse is None:
                fine = again_in_backward(lambda *maps: decoder(maps), again)(*kept)
            # full resolution is most of the decoder's cost, and only maps need it
            elif keep_maps:
                fine, coarse = again_in_backward(lambda *maps: decoder.at_both(maps), again)(*kept)
            else:
                coarse = again_in_backward(lambda *maps: decoder.at_stride_2(maps), again)(*kept)
            dense, stride = (fine, 1) if coarse is None else (coarse, COARSE_STRIDE)
            assert dense is not None
            blocks.append(pooling.decoded_statistics(dense[:, :count], mask, stride))
            if self.architecture.vessels:
                vessels = dense[:, count : count + 1], stride
            if fine is not None:
                lesions = fine[:, :count].float().sigmoid(), 1
            if self.architecture.pools_anatomy:
                anatomy = pooling.decoded_statistics(dense[:, count:], mask, stride)
        blocks += [block for block in (colour, anatomy) if block is not None]
        return torch.cat(blocks, dim=-1), kept, lesions, vessels
