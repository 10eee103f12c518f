"""Encoders behind segmentation_models_pytorch's decoders."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from retina_fm._vision import import_vision
from retina_fm.errors import ConfigError, ViewError, nearest
from retina_fm.network.architecture import DOWNSAMPLINGS, STRIDES
from retina_fm.network.encoder import Encoder
from retina_fm.network.layers import TRUNK_LAYERS, ResidualBlock
from retina_fm.network.views import check_view

ARCHITECTURES = (
    *("Unet", "UnetPlusPlus", "MAnet", "Linknet", "FPN", "PSPNet", "UPerNet", "Segformer"),
    *("PAN", "DeepLabV3", "DeepLabV3Plus", "DPT"),
)
DEEPEST = 5
_REGISTERED = "retina_fm"
_BLOCKS = (256, 128, 64, 32, 16)


class SegmentationEncoder(nn.Module):
    """Maps of an encoder in the form that segmentation_models_pytorch's decoders ask for.

    They take a list of maps at strides 1, 2, 4 and so on, ``depth + 1`` of them; the first, which most of
    them ignore, is the stem's map, or the view where the encoder has none at stride 1. Fundus2Video halves
    its input four times; a fifth map is the fourth one's mean over 2 x 2 places.

    Attributes:
        encoder: the model, shared, not copied.
        out_channels: of the maps.
    """

    _is_torch_scriptable = False
    _is_torch_exportable = True
    _is_torch_compilable = True

    def __init__(self, encoder: Any, depth: int = DOWNSAMPLINGS, output_stride: int = 32) -> None:
        super().__init__()
        self.encoder = encoder
        self._depth, self._output_stride, self._in_channels = depth, 32, 3
        if not isinstance(depth, int) or not 3 <= depth <= DEEPEST:
            raise ConfigError(f"encoder_depth is {depth!r}; decoders work with 3, 4 or {DEEPEST} halvings.")
        channels = {int(e["reduction"]): int(e["num_chs"]) for e in encoder.feature_info}
        channels.setdefault(1, 3)
        if isinstance(encoder, Encoder):
            channels.setdefault(32, channels[16])
        wanted = [2**level for level in range(depth + 1)]
        if not set(wanted) <= set(channels):
            name = getattr(encoder, "name", type(encoder).__name__)
            raise ConfigError(
                f"{name} has maps at stride {', '.join(str(s) for s in sorted(set(channels) - {1}))}; this "
                f"decoder needs {', '.join(map(str, wanted[1:]))}. Transformers go with DPT."
            )
        self.out_channels = [channels[stride] for stride in wanted]
        if output_stride != 32:
            self.make_dilated(output_stride)

    @property
    def output_stride(self) -> int:
        """Stride of the coarsest map."""
        return int(min(self._output_stride, 2**self._depth))

    def set_in_channels(self, in_channels: int, pretrained: bool = True) -> None:  # noqa: ARG002
        """Take photos of one channel, which stands for all three, or of three.

        Raises:
            ConfigError: another number; a photo's weights say nothing about a fourth channel.
        """
        if in_channels not in (1, 3):
            raise ConfigError(f"in_channels is {in_channels}; a photo has 3 channels, or 1 for all three.")
        self._in_channels = in_channels

    def make_dilated(self, output_stride: int) -> None:
        """Keep the maps from going below a stride of 8 or 16, with the same weights.

        Raises:
            ConfigError: another stride, or an encoder whose layers are not ours to dilate.
        """
        if output_stride not in (8, 16):
            raise ConfigError(f"encoder_output_stride is {output_stride}; use 8, 16 or 32.")
        if not isinstance(self.encoder, Encoder):
            name = getattr(self.encoder, "name", type(self.encoder).__name__)
            raise ConfigError(
                f"{name} cannot be dilated to stride {output_stride} without changing the shared model. Use "
                "a decoder that takes stride 32 (PAN with encoder_output_stride=32, Unet, UPerNet)."
            )
        self._output_stride = output_stride

    def forward(self, view: Tensor) -> list[Tensor]:
        """Views ``(N, 3, H, W)``, whose sides the coarsest stride divides, to ``depth + 1`` maps."""
        if self._in_channels == 1:
            view = view.expand(-1, 3, -1, -1)
        check_view(view)
        if any(side % self.output_stride for side in view.shape[2:]):
            raise ViewError(
                f"The view has {view.shape[2]} x {view.shape[3]} pixels; this decoder needs sides that "
                f"{self.output_stride} divides. Pad it with -1 and crop the result."
            )
        return self._own_maps(view) if isinstance(self.encoder, Encoder) else self._their_maps(view)

    def _own_maps(self, view: Tensor) -> list[Tensor]:
        levels = min(self._depth, DOWNSAMPLINGS) + 1
        dilated = self._output_stride < STRIDES[-1] and levels > DOWNSAMPLINGS
        walk = self.encoder._walk(view.to(self.encoder.dtype))
        maps = list(itertools.islice(walk, levels - int(dilated)))
        if dilated:
            maps.append(dilated_last_stage(self.encoder.model, maps[-1]))
        if self._depth > DOWNSAMPLINGS:
            maps.append(F.avg_pool2d(maps[-1], 2) if self._output_stride == 32 else maps[-1])
        return maps

    def _their_maps(self, view: Tensor) -> list[Tensor]:
        found = self.encoder.forward_intermediates(view, intermediates_only=True)
        strides = [int(entry["reduction"]) for entry in self.encoder.feature_info]
        by_stride = {1: view, **dict(zip(strides, found, strict=True))}
        return [by_stride[2**level] for level in range(self._depth + 1)]


class TokenEncoder(nn.Module):
    """Maps and class tokens in the form that segmentation_models_pytorch's DPT asks for.

    Attributes:
        encoder: the model, shared, not copied.
        picked: positions of the maps taken, from fine to coarse.
    """

    def __init__(self, encoder: Any, depth: int = 4, output_indices: Any = None) -> None:
        super().__init__()
        self.encoder = encoder
        info = encoder.feature_info
        if output_indices is None:
            first = max(0, len(info) - depth)  # of a pyramid the coarsest, of equal blocks a quarter each
            even = [len(info) * (number + 1) // depth - 1 for number in range(depth)]
            equal = info[0]["reduction"] == info[-1]["reduction"]
            output_indices = even if equal else range(first, len(info))
        self.picked = list(output_indices)
        self.output_strides = [int(info[i]["reduction"]) for i in self.picked]
        self.out_channels = [int(info[i]["num_chs"]) for i in self.picked]
        self.output_stride = self.output_strides[-1]
        backbone = getattr(encoder, "backbone", None)
        self.has_prefix_tokens = getattr(backbone, "num_prefix_tokens", 0) > 0
        odd = [stride for stride in self.output_strides if stride & (stride - 1)]
        if odd:
            raise ConfigError(
                f"{getattr(encoder, 'name', 'This model')} has patches of {odd[0]} pixels; DPT scales maps "
                "by powers of two and cannot join them."
            )

    def forward(self, view: Tensor) -> tuple[list[Tensor], list[Tensor | None]]:
        """Views to maps, and each map's class tokens or None."""
        settings: dict[str, Any] = {"indices": self.picked, "intermediates_only": True}
        if not self.has_prefix_tokens:
            maps = self.encoder.forward_intermediates(view, **settings)
            return maps, [None] * len(maps)
        pairs = self.encoder.forward_intermediates(view, return_prefix_tokens=True, **settings)
        return [pair[0] for pair in pairs], [pair[1] for pair in pairs]


def segmentation_model(
    encoder: Any, architecture: str = "Unet", *, classes: int = 1, **settings: Any
) -> nn.Module:
    """A decoder of segmentation_models_pytorch over an encoder, sharing its parameters.

    Args:
        encoder: the encoder itself, not a copy; peers go with the decoders that their maps serve.
        architecture: a class of segmentation_models_pytorch, see ``ARCHITECTURES``.
        classes: channels of the output.
        settings: further arguments of that class, ``decoder_channels``, ``encoder_depth`` (4 without it) or
            ``encoder_output_stride`` for example.

    Returns:
        A module that takes ``(N, 3, H, W)`` and gives logits ``(N, classes, H, W)``.

    Raises:
        ConfigError: the architecture is unknown, or needs maps that this encoder does not have.
    """
    if architecture not in ARCHITECTURES:
        raise ConfigError(
            f"Unknown segmentation architecture {architecture!r}. {nearest(architecture, ARCHITECTURES)}"
        )
    smp = import_vision("segmentation_models_pytorch")
    own = isinstance(encoder, Encoder)
    depth = settings.pop("encoder_depth", DOWNSAMPLINGS if own or architecture == "DPT" else DEEPEST)
    if architecture == "DPT":
        tokens = TokenEncoder(encoder, depth, settings.pop("encoder_output_indices", None))
        settings.setdefault("decoder_readout", "cat" if tokens.has_prefix_tokens else "ignore")
        with _standing_in(smp, tokens):
            model: nn.Module = smp.DPT("tu-" + _REGISTERED, depth, None, classes=classes, **settings)
    else:
        for key, value in fitting(architecture, depth).items():
            settings.setdefault(key, value)
        maps = SegmentationEncoder(encoder, depth)
        with _standing_in(smp, maps):
            model = getattr(smp, architecture)(
                encoder_name=_REGISTERED,
                encoder_depth=depth,
                encoder_weights=None,
                classes=classes,
                **settings,
            )
    return model


def fitting(architecture: str, depth: int) -> dict[str, Any]:
    """Arguments of a decoder whose defaults expect another number of halvings."""
    if architecture in ("Unet", "UnetPlusPlus", "MAnet"):
        return {"decoder_channels": _BLOCKS[:depth]}
    if architecture == "FPN":
        return {"upsampling": 2 ** (depth - 3)}
    return {"upsampling": 2**depth} if architecture == "PSPNet" else {}


@contextmanager
def _standing_in(smp: Any, encoder: nn.Module) -> Iterator[None]:
    """Whatever encoder a decoder asks the library for, it gets this one."""

    def given(*_: Any, **__: Any) -> nn.Module:
        return encoder

    if isinstance(encoder, TokenEncoder):
        module = import_vision("segmentation_models_pytorch.decoders.dpt.model")
        theirs = module.TimmViTEncoder
        module.TimmViTEncoder = given  # type: ignore[attr-defined]
        try:
            yield
        finally:
            module.TimmViTEncoder = theirs  # type: ignore[attr-defined]
        return
    registry = smp.encoders.encoders
    registry[_REGISTERED] = {"encoder": given, "params": {}, "pretrained_settings": {}}
    try:
        yield
    finally:
        del registry[_REGISTERED]


def dilated_last_stage(layers: nn.Sequential, maps: Tensor) -> Tensor:
    """The map of the last stage at stride 8 instead of 16.

    Every second place of the result has seen the same pixels through the same weights as the usual map; what
    differs are the statistics of the normalisation and the rim.

    Args:
        layers: of the trunk; they are read, not changed, so that other users of the encoder see nothing.
        maps: the trunk's map at stride 8, ``(N, C, H / 8, W / 8)``.

    Returns:
        ``(N, 2 C, H / 8, W / 8)``.
    """
    down: Any = layers[TRUNK_LAYERS - 3]
    maps = F.conv2d(maps, down.weight, down.bias, padding=1)
    maps = layers[TRUNK_LAYERS - 1](layers[TRUNK_LAYERS - 2](maps))
    for block in list(layers)[TRUNK_LAYERS:]:
        maps = maps + _through(block, maps)
    return maps


def _through(block: nn.Module, maps: Tensor) -> Tensor:
    assert isinstance(block, ResidualBlock)
    for layer in block.conv_block:
        if isinstance(layer, nn.ReflectionPad2d):
            maps = F.pad(maps, (2, 2, 2, 2), mode="reflect")
        elif isinstance(layer, nn.Conv2d):
            maps = F.conv2d(maps, layer.weight, layer.bias, dilation=2)
        else:
            maps = layer(maps)
    return maps
