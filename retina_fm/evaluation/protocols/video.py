"""Generated videos against real ones: PSNR in both conventions, SSIM, LPIPS and FVD from users' files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from retina_fm._io.persons import is_nobody
from retina_fm.evaluation.cells import Cell
from retina_fm.evaluation.video_sources import VideoSource, in_view
from retina_fm.metrics.intervals import (
    bootstrap_of,
    finite,
    mean_interval,
    patient_weights,
    sign_flip_test,
    weighted_means,
)
from retina_fm.pictures.marks import marked, png_notes

SHOWN = (0, 3, 5, 7, 9, 11)


class VideoScores(NamedTuple):
    """Figures of every sequence, and those of all together.

    Attributes:
        names: of the sequences.
        patients: of the sequences.
        columns: by metric, a value a sequence.
        together: by metric, one value of the whole set (FVD).
    """

    names: list[str]
    patients: list[str]
    columns: dict[str, list[float]]
    together: dict[str, float]


def score_videos(
    source: VideoSource,
    sequences: Sequence[Any],
    *,
    size: int = 256,
    lpips: str | Path | None = None,
    fvd: Sequence[str] = (),
    sheet: Path | None = None,
) -> VideoScores:
    """Score a source on real sequences; frames are compared in the photo's view, black outside the field.

    Args:
        source: of the videos.
        sequences: of :func:`retina_fm.training.pairs.table.read_pairs`, with twelve frames chosen as in
            training.
        size: of the view.
        lpips: file with torchvision's AlexNet; no LPIPS without it.
        fvd: file of the I3D network and its SHA-256; no FVD without them.
        sheet: a picture of the first sequences to write, real frames above generated ones, which
            carry the word SYNTHETIC.
    """
    from retina_fm.metrics import videos as metrics
    from retina_fm.network.levels import from_levels
    from retina_fm.training.pairs.opening import load_pair, open_pair

    judge = metrics.FigureNetworks(metrics.load_lpips(lpips) if lpips else None)
    network = metrics.load_fvd(*fvd) if fvd else None
    names: list[str] = []
    patients: list[str] = []
    real: list[NDArray[np.float64]] = []
    made: list[NDArray[np.float64]] = []
    lines: list[NDArray[np.uint8]] = []
    columns: dict[str, list[float]] = {}
    for sequence in sequences:
        known = open_pair(sequence, size)
        photo, true, field = load_pair(sequence, size, known=known)
        frames = in_view(source.frames(Path(sequence.photo), sequence.name), known.geometry) * field
        one, two = (from_levels(f)[None] for f in (frames, true))
        for metric, value in metrics.video_scores(one, two, judge).items():
            columns.setdefault(metric, []).append(value)
        names.append(sequence.name)
        patients.append(sequence.name if is_nobody(sequence.patient_id) else sequence.patient_id)
        if network is not None:
            made.append(metrics.video_features(network, one))
            real.append(metrics.video_features(network, two))
        if sheet is not None and len(lines) < 6:
            synthetic = np.stack([marked(frame) for frame in frames])
            lines += [_line(photo, true), _line(np.zeros_like(photo), synthetic)]
    together = {}
    if len(made) > 1:
        together["fvd"] = metrics.frechet_distance(np.concatenate(made), np.concatenate(real))
    if sheet is not None and lines:
        sheet.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.concatenate(lines, 0)).save(sheet, pnginfo=png_notes())
    return VideoScores(names, patients, columns, together)


def video_figures(scores: VideoScores, *, samples: int, seed: int = 0) -> dict[str, Any]:
    """Means over sequences with 1.96 standard errors and a bootstrap over patients."""
    weights = patient_weights(scores.patients, samples, seed)
    figures: dict[str, Any] = {
        metric: {**mean_interval(values).as_dict(), **bootstrap_of(weighted_means(values, weights))}
        for metric, values in scores.columns.items()
    }
    figures |= {m: {"mean": finite(v), "low": None, "high": None} for m, v in scores.together.items()}
    return figures


def compare_videos(first: Cell, second: Cell, *_: Any, **__: Any) -> dict[str, float | None]:
    """Two sources' videos of the same sequences: difference of SSIM, signs flipped over sequences."""
    one, two = (np.array(cell.extra["columns"]["ssim"]) for cell in (first, second))
    gaps = one - two
    return {"difference": float(gaps.mean()), "t_test_p": None, "permutation_p": sign_flip_test(gaps)}


def _line(photo: NDArray[np.uint8], frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
    grey = [np.repeat(frames[t][..., None], 3, 2) for t in SHOWN]
    return np.concatenate([photo, *grey], 1)
