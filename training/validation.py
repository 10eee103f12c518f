"""Running validation, cheap enough for every half hour: held-back videos, zero-shot vessels, probes."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from retina_fm.errors import ConfigError, NoPicturesError
from retina_fm.generation import generate_frames
from retina_fm.network import Generator, encoder_of
from retina_fm.pictures import Transform, expand
from retina_fm.training.metrics import FigureNetworks, video_scores
from retina_fm.training.presets import Preset
from retina_fm.vessel_reading import vessel_score

VENOUS_STEPS = 6  # the steps that give frames 0 to 7, arterial and venous
_SHEET_FRAMES = (0, 2, 4, 6, 8, 11)


@dataclass(frozen=True)
class LabelledViews:
    """Photographs with vessel masks, as views.

    Attributes:
        views: ``(N, 3, S, S)`` in [-1, 1].
        masks: bool ``(N, S, S)``, vessels.
        inside: bool ``(N, S, S)``, field of view.
    """

    views: Tensor
    masks: Tensor
    inside: Tensor


def masked_auroc(scores: Tensor, labels: Tensor, inside: Tensor) -> float:
    """Area under the ROC curve of pixels inside the field of view; NaN where one class is missing."""
    from sklearn.metrics import roc_auc_score

    chosen = inside.bool()
    truth = labels[chosen].cpu().numpy()
    if truth.all() or not truth.any():
        return float("nan")
    return float(roc_auc_score(truth, scores[chosen].float().cpu().numpy()))


@torch.no_grad()
def zero_shot_vessels(generator: Generator, labelled: LabelledViews, *, batch: int = 4) -> float:
    """Mean AUROC a photograph of vessels read off the generated arterial and venous frames."""
    device = next(generator.parameters()).device
    found = []
    for start in range(0, len(labelled.views), batch):
        rows = slice(start, start + batch)
        frames = generate_frames(generator, labelled.views[rows].to(device), VENOUS_STEPS).float().cpu()
        vessels = vessel_score(frames, labelled.inside[rows])
        for scores, mask, inside in zip(vessels, labelled.masks[rows], labelled.inside[rows], strict=True):
            found.append(masked_auroc(scores, mask, inside))
    return float(np.nanmean(found))


def read_labelled(
    photos: str | Path, masks: str | Path, size: int, limit: int | None = None
) -> LabelledViews:
    """Photographs and masks of the same names, as views.

    Raises:
        NoPicturesError: there are none.
        ConfigError: a photograph has no mask.
    """
    from retina_fm.pictures import read_picture
    from retina_fm.training.prepare_folder import find_mask

    transform = Transform(size=size)
    views, vessels, insides = [], [], []
    paths = [Path(str(path)) for path in expand(photos)][:limit]
    if not paths:
        raise NoPicturesError(f"{photos} holds no photographs to validate on. Check the folder.")
    for path in paths:
        found = find_mask(Path(masks), path)
        if found is None:
            raise ConfigError(f"{path.name} has no mask in {masks}. Add one, or take it out.")
        view, geometry = transform.view(path)
        mask = geometry.view_of(read_picture(found).max(2).astype(np.float32), "area")
        views.append(torch.from_numpy(transform.normalise(view)))
        vessels.append(torch.from_numpy(mask > 127))
        insides.append(torch.from_numpy(geometry.mask_in_view()))
    return LabelledViews(torch.stack(views), torch.stack(vessels), torch.stack(insides))


@dataclass(frozen=True)
class HeldBack:
    """Sequences that are not trained on: photos ``(N, 3, S, S)`` and frames ``(N, 12, S, S)`` in [-1, 1]."""

    photos: Tensor
    frames: Tensor


def read_held_back(data: str | Path, size: int, limit: int = 8) -> HeldBack:
    """Held-back sequences: those of split ``val`` of a pairs.csv, or rendered from prepared eyes, seeded.

    Raises:
        NoPicturesError: there are none.
    """
    from retina_fm.training.pair_samples import load_pair
    from retina_fm.training.pairs import read_pairs
    from retina_fm.training.prepared import load_eye
    from retina_fm.training.render import render_batch
    from retina_fm.training.samples import list_eyes

    place = Path(data)
    table = place / "pairs.csv" if place.is_dir() else place
    photos, frames = [], []
    if table.suffix == ".csv" and table.is_file():
        sequences = read_pairs(table)
        chosen = [s for s in sequences if s.split == "val"] or sequences
        for sequence in chosen[:limit]:
            photo, video, field = load_pair(sequence, size)
            view = torch.from_numpy(photo).permute(2, 0, 1).float() / 127.5 - 1
            photos.append(torch.where(torch.from_numpy(field), view, -1.0))
            frames.append(torch.from_numpy(video).float() / 127.5 - 1)
    else:
        for number, path in enumerate(list_eyes(place)[:limit]):
            random = torch.Generator().manual_seed(number)
            eye = load_eye(path)
            rendered = render_batch([eye], random, painting=0.5, augment=False, grain=0.3)
            photos.append(_resized(rendered.photo, size)[0])
            frames.append(_resized(rendered.frames * 2 - 1, size)[0])
    if not photos:
        raise NoPicturesError(f"{data} holds no sequences to validate on. Check --held-back.")
    return HeldBack(torch.stack(photos), torch.stack(frames))


def _resized(pictures: Tensor, size: int) -> Tensor:
    if pictures.shape[-1] == size:
        return pictures
    outside = (pictures == -1).all(1, keepdim=True).float()
    small = torch.nn.functional.interpolate(
        pictures, (size, size), mode="bilinear", antialias=True, align_corners=False
    )
    field = torch.nn.functional.interpolate(outside, (size, size), mode="nearest")
    return torch.where(field > 0.5, -1.0, small.clamp(-1, 1))


@torch.no_grad()
def video_figures(
    generator: Generator, held: HeldBack, networks: FigureNetworks | None = None, *, batch: int = 2
) -> tuple[dict[str, float], Tensor]:
    """Figures of whole generated videos (``metrics.video_scores``), and the videos."""
    device = next(generator.parameters()).device
    made = torch.cat(
        [
            generate_frames(generator, held.photos[start : start + batch].to(device)).float().cpu()
            for start in range(0, len(held.photos), batch)
        ]
    )
    return video_scores(made, held.frames, networks), made


def sheet(photos: Tensor, rows: Sequence[Tensor]) -> Image.Image:
    """A picture of videos: each photo with six frames of each of ``rows`` (true above generated, say)."""
    lines = []
    for index, photo in enumerate(photos):
        colour = _grey_levels(photo).transpose(1, 2, 0)
        for number, videos in enumerate(rows):
            first = colour if number == 0 else np.zeros_like(colour)
            frames = [
                np.repeat(_grey_levels(videos[index, t])[..., None], 3, 2)
                for t in _SHEET_FRAMES
                if t < videos.shape[1]
            ]
            lines.append(np.concatenate([first, *frames], 1))
    return Image.fromarray(np.concatenate(lines, 0))


def _grey_levels(values: Tensor) -> NDArray[np.uint8]:
    levels = ((values.float().cpu() + 1) * 127.5).round().clamp(0, 255)
    return np.asarray(levels.to(torch.uint8).numpy())


@torch.no_grad()
def probe(generator: Generator, table: str | Path, size: int, *, limit: int = 600) -> dict[str, float]:
    """Linear probe and same-patient recall on a folder with a ``labels.csv``, on the raw statistics.

    Statistics are standardised; logistic regression in five folds that keep a patient together gives the
    mean one-against-rest AUROC; recall is how often the nearest other picture (cosine) is of the same
    patient.

    Args:
        generator: whose encoder is probed.
        table: with columns ``path`` and ``label``, and ``patient_id`` where patients are known.
        size: of the views.
        limit: pictures at most, the first of the table.

    Raises:
        ConfigError: the table has no such columns.
    """
    rows = probe_rows(table)[:limit]
    encoder = encoder_of(generator).eval()
    transform = Transform(size=size)
    device = next(encoder.parameters()).device
    statistics = []
    for row in rows:
        view = transform.normalise(transform.view(row["path"])[0])
        statistics.append(encoder.statistics(torch.from_numpy(view)[None].to(device)).float().cpu())
    features = torch.cat(statistics).numpy()
    spread = features.std(0)
    features = (features - features.mean(0)) / np.maximum(spread, 0.1 * np.median(spread) + 1e-6)
    patients = [row.get("patient_id") or str(number) for number, row in enumerate(rows)]
    figures = {"auroc": _probe_auroc(features, [row["label"] for row in rows], patients)}
    if len(set(patients)) < len(patients):
        figures["recall@1"] = recall_at_1(features, patients)
    return figures


def recall_at_1(features: NDArray[Any], patients: Sequence[str]) -> float:
    """How often the nearest other picture is of the same patient, over pictures that have another."""
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    likeness = unit @ unit.T
    np.fill_diagonal(likeness, -np.inf)
    nearest = likeness.argmax(1)
    names = np.asarray(patients)
    paired = np.array([(names == name).sum() > 1 for name in names])
    return float((names[nearest] == names)[paired].mean())


def _probe_auroc(features: NDArray[Any], labels: Sequence[str], patients: Sequence[str]) -> float:
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict

    names, classes = np.unique(labels, return_inverse=True)
    counts = np.bincount(classes)
    keep = np.isin(classes, np.flatnonzero(counts >= 10))  # a class of fewer cannot be judged
    kept, truth = np.unique(classes[keep], return_inverse=True)
    if len(kept) < 2:
        raise ConfigError(f"A probe needs two labels with ten pictures each; found {names.tolist()}.")
    folds = StratifiedGroupKFold(5, shuffle=True, random_state=0)
    scores = cross_val_predict(
        LogisticRegression(C=0.01, max_iter=300, class_weight="balanced"),
        features[keep],
        truth,
        groups=np.asarray(patients)[keep],
        cv=folds,
        method="predict_proba",
    )
    return float(np.mean([roc_auc_score(truth == k, scores[:, k]) for k in range(len(kept))]))


def probe_rows(table: str | Path) -> list[dict[str, str]]:
    """Rows of a table of labels, with paths that exist: relative to the table or to ``images`` beside it.

    Raises:
        ConfigError: there is no such table, it lacks columns, or a picture of it is not there.
    """
    source = Path(table)
    try:
        with source.open(encoding="utf-8-sig", newline="") as stream:
            rows = list(csv.DictReader(stream))
    except OSError as error:
        raise ConfigError(f"{source} cannot be read ({error}). Give a labels.csv to --probe.") from None
    if not rows or "path" not in rows[0] or "label" not in rows[0]:
        raise ConfigError(f"{source} needs columns path and label (and patient_id) for a probe.")
    for row in rows:
        places = [source.parent / row["path"], source.parent / "images" / row["path"]]
        there = [place for place in places if place.is_file()]
        if not there:
            raise ConfigError(f"{source} names {row['path']}, which is not beside it. Check the column path.")
        row["path"] = str(there[0])
    return rows


def make_validation(
    out: Path,
    preset: Preset,
    *,
    held_back: str | Path | None = None,
    vessels: Sequence[str | Path] | None = None,
    probes: Sequence[str | Path] = (),
    networks: FigureNetworks | None = None,
    device: str = "cpu",
) -> Callable[[Generator, int], dict[str, float]] | None:
    """The validation that a run asks for, its data read once; None where it asks for none.

    Views are half of the preset's size on a CPU, to stay cheap. Sheets of generated videos go to
    ``sheets/`` in the run's folder.

    Args:
        out: the run's folder.
        preset: gives the size.
        held_back: prepared eyes or pairs that are not trained on.
        vessels: folder of photographs and folder of vessel masks.
        probes: tables of labels.
        networks: for LPIPS and FVD.
        device: of the run.
    """
    if not (held_back or vessels or probes):
        return None
    size = preset.size if str(device).startswith("cuda") else max(64, preset.size // 2)
    held = read_held_back(held_back, size) if held_back else None
    labelled = read_labelled(vessels[0], vessels[1], size, limit=28) if vessels else None
    video = not preset.single_frame
    for table in probes:
        probe_rows(table)  # what is wrong with a table shows now, not after half an hour

    def validate(generator: Generator, step: int) -> dict[str, float]:
        figures: dict[str, float] = {}
        if held is not None and video:
            found, made = video_figures(generator, held, networks)
            figures.update(found)
            path = out / "sheets" / f"step-{step:08d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            sheet(held.photos[:4], [held.frames[:4], made[:4]]).save(path)
        if labelled is not None:
            figures["vessel_auroc"] = zero_shot_vessels(generator, labelled)
        for table in probes:
            name = Path(table).parent.name
            figures.update({f"{name}/{k}": v for k, v in probe(generator, table, size).items()})
        return figures

    return validate
