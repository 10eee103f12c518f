"""A transform in the words of timm's pretrained configurations."""

from __future__ import annotations

from typing import Any

from retina_fm.models.contract import ModelCard
from retina_fm.pictures import Transform


def pretrained_cfg(
    transform: Transform,
    card: ModelCard,
    *,
    architecture: str,
    stride: int | None,
    first_conv: str | None,
    classifier: str,
    num_classes: int = 0,
    fixed_size: bool = False,
) -> dict[str, Any]:
    """The dictionary that timm keeps as ``model.pretrained_cfg``.

    timm knows nothing of a field of view: its transforms resize and normalise as ours do, and leave out the
    crop to the retina and the mask round it. For the same numbers as :func:`retina_fm.encode`, use
    ``encoder.transform``.

    Args:
        transform: of the model.
        card: of the model.
        architecture: the registered name.
        stride: of the last map, or None where there is none of that name.
        first_conv: name of the convolution that sees the photo.
        classifier: name of the classifier's module.
        num_classes: of the published weights.
        fixed_size: whether other sizes are refused.
    """
    size = transform.size
    return {
        "architecture": architecture,
        "input_size": (3, size, size),
        "fixed_input_size": fixed_size,
        "interpolation": transform.resample,
        "crop_pct": 1.0,
        "crop_mode": "center",
        "mean": tuple(transform.mean),
        "std": tuple(transform.std),
        "num_classes": num_classes,
        "pool_size": None if stride is None else (size // stride, size // stride),
        "first_conv": first_conv,
        "classifier": classifier,
        "license": card.licence,
        "description": card.training_data,
        "paper_name": card.citation,
    }
