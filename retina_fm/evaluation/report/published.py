"""Figures that the paper's text states, to stand beside ours; those in its plots alone are not guessed."""

from __future__ import annotations

from typing import NamedTuple

PAPER = (
    "Zhang et al., Fundus to Fluorescein Angiography Video Generation as a Retinal Generative Foundation "
    "Model"
)


class Published(NamedTuple):
    """A published figure.

    Attributes:
        protocol: of this package.
        words: in a task's or set's name that it belongs to.
        setting: of the protocol; empty for any.
        metric: name.
        value: as printed.
        who: model and data.
    """

    protocol: str
    words: tuple[str, ...]
    setting: str
    metric: str
    value: str
    who: str


PUBLISHED = (
    Published("vessels", ("rite", "drive"), "0 shots", "auroc", "0.943", "Fundus2Video, RITE (paper)"),
    Published("vessels", ("rite", "drive"), "1 shots", "dice", "0.733", "Fundus2Video, RITE (paper)"),
    Published("vessels", ("rite", "drive"), "1 shots", "auroc", "0.965", "Fundus2Video, RITE (paper)"),
    Published("vessels", ("rite", "drive"), "", "dice", "0.788", "second human observer, DRIVE test part"),
    Published("retrieval", ("angio",), "", "recall_mean", "above 0.8", "Fundus2Video, AngioReport (paper)"),
    Published("video", (), "", "psnr_public_code", "11.77", "Fundus2Video (paper)"),
    Published("video", (), "", "ssim", "0.3795", "Fundus2Video (paper)"),
    Published("video", (), "", "lpips", "0.2131", "Fundus2Video (paper)"),
    Published("video", (), "", "fvd", "1497.12", "Fundus2Video (paper, Table 1; its text says 497.12)"),
    Published("video", (), "", "psnr_public_code", "10.54", "Seg2Vid (paper)"),
    Published("video", (), "", "psnr_public_code", "10.73", "Med-DDPM (paper)"),
    Published("video", (), "", "psnr_public_code", "10.84", "ConsistI2V (paper)"),
)


def beside(protocol: str, task: str, setting: str, metric: str) -> list[Published]:
    """Published figures of a task, by words in its name."""
    return [
        p
        for p in PUBLISHED
        if p.protocol == protocol
        and p.metric == metric
        and p.setting in ("", setting)
        and (not p.words or any(word in task.lower() for word in p.words))
    ]
