"""The generator: photo and last triple of frames in, next triple of frames out."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from retina_fm.network.architecture import Architecture
from retina_fm.network.encoder import Encoder, LesionHeads, run_trunk
from retina_fm.network.layers import TRUNK_LAYERS, decoder_layers, trunk_layers
from retina_fm.network.lesion_decoder import (
    COARSE_STRIDE,
    attend,
    attention_layer,
    coarse_layer,
    decode,
    skip_layers,
)
from retina_fm.network.memory import remembered
from retina_fm.network.views import check_view, crop_to, pad_to_stride
from retina_fm.vocabulary import FRAMES_A_PASS


class Generated(NamedTuple):
    """Output of one pass of the generator.

    Attributes:
        frames: three consecutive grey frames ``(N, 3, H, W)`` in [-1, 1].
        attention: where the network looks, ``(N, 1, H / 16, W / 16)`` in (0, 1), or None.
        lesions: logits of the lesion maps, ``(N, L, H / s, W / s)`` for s = 1 (decoder), 2 (with coarse
            maps), 4 and 8 (heads on the encoder's maps); empty without lesion types.
        maps: the encoder's five maps, before attention.
        vessels: logits of the vessel map, ``(N, 1, H / s, W / s)`` for s = 1 and, with coarse maps, 2; empty
            without a vessel map.
        anatomy: logits of the maps of the architecture's anatomy, likewise.
    """

    frames: Tensor
    attention: Tensor | None
    lesions: tuple[Tensor, ...]
    maps: tuple[Tensor, ...]
    vessels: tuple[Tensor, ...] = ()
    anatomy: tuple[Tensor, ...] = ()


class Generator(nn.Module):
    """pix2pixHD's global generator, with attention, lesion maps and a vessel map beside it.

    Keys follow the public layout: ``model.1`` stem, ``model.4/7/10/13`` downsamplings, ``model.16...``
    residual blocks, then four upsamplings and the output convolution. ``skips.0`` to ``skips.3``, where there
    are any, add the encoder's maps at strides 1 to 8 to what was upsampled to the same size; ``coarse`` reads
    lesion and vessel maps off the decoder's map at stride 2.
    """

    def __init__(self, architecture: Architecture | None = None) -> None:
        super().__init__()
        self.architecture = architecture or Architecture()
        self.model = nn.Sequential(
            *trunk_layers(self.architecture, self.architecture.in_channels),
            *decoder_layers(self.architecture, self.architecture.outputs),
        )
        self.attention = attention_layer(self.architecture)
        self.lesion_heads = LesionHeads(self.architecture) if self.architecture.lesions else None
        self.skips = skip_layers(self.architecture)
        self.coarse = coarse_layer(self.architecture)

    @property
    def dtype(self) -> torch.dtype:
        """Number type that it computes in."""
        return next(self.model.parameters()).dtype

    def freeze_encoder(self) -> None:
        """Lets the decoder alone take gradients: trunk and lesion heads stay as they are."""
        self.model[: self._decoder_at].requires_grad_(False)
        if self.lesion_heads is not None:
            self.lesion_heads.requires_grad_(False)

    @property
    def _decoder_at(self) -> int:
        """Where in ``model`` the decoder begins."""
        return TRUNK_LAYERS + self.architecture.encoder_blocks

    def forward(self, photo: Tensor, last: Tensor | None = None) -> Generated:
        """One step of the video.

        Args:
            photo: ``(N, 3, H, W)`` in [-1, 1], -1 outside the field of view.
            last: the last three frames ``(N, 3, H, W)`` in [-1, 1]; the photo stands in for them at the
                first step. Ignored by generators of three input channels.

        Raises:
            ViewError: an input of wrong rank, type or size.
        """
        check_view(photo)
        height, width = photo.shape[2:]
        inputs = photo
        if self.architecture.in_channels > photo.shape[1]:
            shown = photo if last is None else remembered(photo, last, self.architecture.memory)
            inputs = torch.cat([photo, shown], dim=1)
        padded, _ = pad_to_stride(inputs, inputs[:, 0] > -torch.inf)
        maps = tuple(m for _, m in run_trunk(self.model, padded, self.architecture.encoder_blocks))
        coarse, attention = attend(self.attention, maps[-1])
        after = list(self.model)[self._decoder_at :]
        decoded, before = decode(after, self.skips, coarse, maps)
        decoded = crop_to(decoded, 1, height, width)
        dense = [decoded[:, FRAMES_A_PASS:]]
        if self.coarse is not None:
            dense.append(crop_to(self.coarse(before), COARSE_STRIDE, height, width))
        lesions: tuple[Tensor, ...] = ()
        count = len(self.architecture.lesions)
        if self.lesion_heads is not None:
            lesions = (*(one[:, :count] for one in dense), *self.lesion_heads(maps[2], maps[3]))
        vessels = tuple(one[:, count : count + 1] for one in dense) if self.architecture.vessels else ()
        parts = len(self.architecture.anatomy)
        anatomy = tuple(one[:, -parts:] for one in dense) if parts else ()
        return Generated(decoded[:, :FRAMES_A_PASS].tanh(), attention, lesions, maps, vessels, anatomy)


def encoder_of(generator: Generator, architecture: Architecture | None = None) -> Encoder:
    """The encoder of a photo that a generator holds, its stem folded exactly; weights are copied.

    The pooling stays as :class:`Pooling` makes it: it is fitted, not trained.

    Args:
        generator: whose weights are taken.
        architecture: of the encoder where it is not the generator's, for example with ``lesion_decoder``.
    """
    architecture = architecture or generator.architecture
    encoder = Encoder(architecture)
    state = encoder_state(generator.state_dict(), architecture)
    missing, unexpected = encoder.load_state_dict(state, strict=False)
    assert not unexpected and all(key.startswith("pooling.") for key in missing), (missing, unexpected)
    return encoder.train(generator.training)


def encoder_state(state: dict[str, Tensor], architecture: Architecture) -> dict[str, Tensor]:
    """From a generator's state, the encoder's: trunk with folded stem, lesion heads, decoder of lesions."""
    last = TRUNK_LAYERS + architecture.encoder_blocks
    kept = {
        key: value
        for key, value in state.items()
        if key.startswith("lesion_heads.") or (key.startswith("model.") and int(key.split(".")[1]) < last)
    }
    stem = kept["model.1.weight"]
    if stem.shape[1] == 6:
        kept["model.1.weight"] = (stem[:, :3].double() + stem[:, 3:].double()).to(stem.dtype)
    if architecture.lesion_decoder:
        kept.update(_lesion_decoder_state(state, last))
    return kept


def _lesion_decoder_state(state: dict[str, Tensor], first: int) -> dict[str, Tensor]:
    """The decoder's part, its last convolution without the channels of the frames."""
    numbered = [(int(key.split(".")[1]), key) for key in state if key.startswith("model.")]
    output = max(number for number, _ in numbered)
    found = {
        f"lesion_decoder.{key}": value
        for key, value in state.items()
        if key.startswith(("skips.", "attention.", "coarse."))
    }
    for number, key in numbered:
        if number >= first:
            _, _, name = key.split(".", 2)
            value = state[key]
            found[f"lesion_decoder.layers.{number - first}.{name}"] = (
                value[FRAMES_A_PASS:] if number == output else value
            )
    return found
