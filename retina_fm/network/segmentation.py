"""The encoder behind segmentation_models_pytorch's decoders."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from retina_fm._vision import import_vision
from retina_fm.errors import ConfigError, nearest
from retina_fm.network.encoder import Encoder

ARCHITECTURES = ("Unet", "UnetPlusPlus", "MAnet", "Linknet", "FPN", "PSPNet", "UPerNet", "Segformer")
_REGISTERED = "retina_fm"
_FOUR_DOWNSAMPLINGS: dict[str, dict[str, Any]] = {
    "Unet": {"decoder_channels": (256, 128, 64, 32)},
    "UnetPlusPlus": {"decoder_channels": (256, 128, 64, 32)},
    "MAnet": {"decoder_channels": (256, 128, 64, 32)},
    "FPN": {"upsampling": 2},
    "PSPNet": {"upsampling": 16},
}
"""Defaults of the decoders expect five downsamplings (three for PSPNet); these fit four."""


class SegmentationEncoder(nn.Module):
    """Maps of an :class:`Encoder` in the form that the decoders ask for.

    Decoders of segmentation_models_pytorch take a list whose first entry, at stride 1, most of them ignore;
    here it is the stem's map. ``depth=4``, since the encoder halves its input four times.
    """

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.out_channels = list(encoder.architecture.channels)
        self.output_stride = 16

    def forward(self, view: Tensor) -> list[Tensor]:
        """Views ``(N, 3, H, W)``, 16 dividing H and W, to five maps at strides 1 to 16."""
        return list(self.encoder.maps(view))


def segmentation_model(
    encoder: Encoder, architecture: str = "Unet", *, classes: int = 1, **settings: Any
) -> nn.Module:
    """A decoder of segmentation_models_pytorch over the encoder, sharing its parameters.

    Args:
        encoder: the encoder itself, not a copy.
        architecture: a class of segmentation_models_pytorch, see ``ARCHITECTURES``.
        classes: channels of the output.
        settings: further arguments of that class, ``decoder_channels`` for example.

    Returns:
        A module that takes ``(N, 3, H, W)`` and gives logits ``(N, classes, H, W)``.

    Raises:
        ConfigError: the architecture is not one that takes an encoder of four downsamplings.
    """
    if architecture not in ARCHITECTURES:
        raise ConfigError(
            f"Unknown segmentation architecture {architecture!r}. {nearest(architecture, ARCHITECTURES)}"
        )
    smp = import_vision("segmentation_models_pytorch")
    channels = list(encoder.architecture.channels)

    class Placeholder(nn.Module):
        """Stands in while the decoder is built: the decoders only ask for channels and stride."""

        def __init__(self, **_: Any) -> None:
            super().__init__()
            self.out_channels, self.output_stride = channels, 16

        def set_in_channels(self, *_: Any, **__: Any) -> None:
            """Three channels always."""

        def make_dilated(self, *_: Any, **__: Any) -> None:
            """Stride 16 is the encoder's own."""

    for key, value in _FOUR_DOWNSAMPLINGS.get(architecture, {}).items():
        settings.setdefault(key, value)
    registry = smp.encoders.encoders
    registry[_REGISTERED] = {"encoder": Placeholder, "params": {}, "pretrained_settings": {}}
    try:
        model: nn.Module = getattr(smp, architecture)(
            encoder_name=_REGISTERED, encoder_depth=4, encoder_weights=None, classes=classes, **settings
        )
    finally:
        del registry[_REGISTERED]
    model.encoder = SegmentationEncoder(encoder)
    return model
