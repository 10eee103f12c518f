"""What the adapters' benchmarks share: pictures with masks, figures with intervals, sheets to look at."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from sklearn.metrics import average_precision_score, roc_auc_score
from torch import Tensor, nn

from retina_fm._vision import import_vision
from retina_fm.adapters import FundusSegmenter
from retina_fm.adapters.extraction import encoder_of
from retina_fm.pictures.masks import dice

SCRATCH_UNET = "unet-resnet34-scratch"


def files(folder: Path) -> list[Path]:
    return sorted(folder.iterdir())


def grey(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("L"))


def vessel_figures(
    probability: np.ndarray, wanted: np.ndarray, inside: np.ndarray, threshold: float
) -> dict[str, float]:
    """AUROC and Dice of one picture, in its own pixels inside its field of view."""
    return {
        "auroc": float(roc_auc_score(wanted[inside], probability[inside])),
        "dice": dice((probability >= threshold) & inside, wanted & inside),
    }


def lesion_figures(score: np.ndarray, wanted: np.ndarray, inside: np.ndarray) -> dict[str, float]:
    """AUROC, average precision, and how many times the prevalence that is."""
    truth, found = wanted[inside][::4], score[inside][::4]
    precision = float(average_precision_score(truth, found))
    return {
        "auroc": float(roc_auc_score(truth, found)),
        "average_precision": precision,
        "times_prevalence": precision / float(truth.mean()),
    }


def sheet(pictures: Sequence[np.ndarray], path: Path, width: int = 420) -> None:
    """Pictures side by side, reduced, for looking at."""
    small = [
        np.asarray(Image.fromarray(one).resize((width, round(width * one.shape[0] / one.shape[1]))))
        for one in pictures
    ]
    height = max(p.shape[0] for p in small)
    padded = [np.pad(p, ((0, height - p.shape[0]), (0, 0), (0, 0))) for p in small]
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.concatenate(padded, 1)).save(path, quality=85)


class _NoMaps:
    """Stands where an encoder's maps are expected, for a network that has an encoder of its own."""

    channels = (0, 0, 0, 0, 0)
    guides = 0

    def __init__(self, encoder: Any) -> None:
        self.encoder = encoder

    def maps(self, _: Tensor) -> tuple[Tensor, ...]:
        return ()


class _WholeUnet(nn.Module):
    def __init__(self, outputs: int) -> None:
        super().__init__()
        smp = import_vision("segmentation_models_pytorch")
        self.unet = smp.Unet("resnet34", encoder_weights=None, classes=outputs)

    def forward(self, view: Tensor, _: Sequence[Tensor]) -> Tensor:
        logits: Tensor = self.unet(view)
        return logits


class ScratchUnet(FundusSegmenter):
    """segmentation_models_pytorch's U-Net over a ResNet-34 without pretraining, trained by the same loop."""

    def _source(self) -> Any:
        return _NoMaps(encoder_of(self.model, self._compute()))

    def _new_module(self, source: Any) -> Any:  # noqa: ARG002
        count = len(self.classes_)
        return _WholeUnet(1 if count == 2 else count)


def segmenter(model: str, **settings: Any) -> FundusSegmenter:
    """A segmenter over a model, or the U-Net from scratch on the same views."""
    kind = ScratchUnet if model == SCRATCH_UNET else FundusSegmenter
    return kind("fundus2video-random" if model == SCRATCH_UNET else model, **settings)
