"""Every registered model as an encoder of segmentation_models_pytorch, once this module is imported.

    import retina_fm.models.smp_encoders
    import segmentation_models_pytorch as smp

    model = smp.Unet("retina_fm/fundus2video", encoder_weights=None, classes=2)
    model = smp.DPT("tu-fundus2video", encoder_weights=None, encoder_output_indices=(1, 2, 3, 4))

The name says which weights are meant, so that ``encoder_weights`` is always None, which for other encoders
means random ones: ``retina_fm/NAME`` has the released weights. DPT takes names of timm alone, and there
``encoder_weights=True`` asks for them. Views are what ``encoder.transform`` makes: in [-1, 1].
"""

from __future__ import annotations

from typing import Any

import retina_fm.models.timm_models  # noqa: F401  DPT takes timm's names
from retina_fm._vision import import_vision
from retina_fm.models import registry
from retina_fm.network import Encoder
from retina_fm.network.segmentation import DEEPEST, SegmentationEncoder

PREFIX = "retina_fm/"


class RegisteredEncoder(SegmentationEncoder):
    """An encoder by name, its weights loaded, without what only an embedding needs."""

    def __init__(self, name: str, depth: int = DEEPEST, output_stride: int = 32) -> None:
        encoder: Any = registry.load(name)
        super().__init__(encoder, depth, 32)
        if isinstance(encoder, Encoder):
            encoder.prune_intermediate_layers(range(min(depth + 1, len(encoder.feature_info))))
        if output_stride != 32:
            self.make_dilated(output_stride)


def register() -> list[str]:
    """Put every registered model into the library's table, and say under which names."""
    table = import_vision("segmentation_models_pytorch").encoders.encoders
    names = [summary.name for summary in registry.list_models()]
    for name in names:
        entry = {"encoder": RegisteredEncoder, "params": {"name": name}, "pretrained_settings": {}}
        table[PREFIX + name] = entry
    return [PREFIX + name for name in names]


NAMES = register()
