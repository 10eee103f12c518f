"""Running validation, cheap enough for every half hour: held-back videos, zero-shot vessels, probes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from retina_fm.errors import ConfigError, NoPicturesError, RetinaError
from retina_fm.metrics.videos import (
    FigureNetworks,
    import_torchmetrics,
    load_fvd,
    load_lpips,
    video_scores,
)
from retina_fm.network import Generator
from retina_fm.network.levels import to_uint8
from retina_fm.network.unrolling import generate_frames
from retina_fm.pictures import Transform, expand
from retina_fm.pictures.marks import marked, png_notes
from retina_fm.training.pretraining.data.sources import open_source
from retina_fm.training.pretraining.presets import Preset
from retina_fm.training.pretraining.run_log import logger
from retina_fm.training.pretraining.run_settings import Validation
from retina_fm.training.pretraining.validating.probes import (
    PROBE_PICTURES,
    probe,
    probe_folds,
    probe_names,
    probe_rows,
)
from retina_fm.vessels.reading import read_vessels
from retina_fm.vocabulary import STEPS_A_VIDEO

_VENOUS_FRAME = 6
_SHEET_FRAMES = (0, 2, 4, 6, 8, 11)
# A validation that goes wrong must not cost the run that it was to judge.
_FORGIVEN = (RetinaError, ValueError, OSError, torch.OutOfMemoryError)
_FAILED = (
    "%s failed at step %d (%s). Training goes on without its figures; the next validation tries again, and "
    "says no more if it fails."
)
Part = Callable[[Generator, int], dict[str, float]]
"""One of the things that are validated: generator and step to figures."""


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
    """Mean AUROC a photograph of vessels read off the vessel map, or off generated frames without one."""
    device = next(generator.parameters()).device
    found = []
    for start in range(0, len(labelled.views), batch):
        rows = slice(start, start + batch)
        vessels = read_vessels(generator, labelled.views[rows].to(device)).cpu()
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
    from retina_fm.pictures.masks import find_mask

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
    """Held-back sequences: those of a pairs.csv that training leaves out, or rendered from prepared eyes.

    Raises:
        NoPicturesError: there are none.
    """
    photos, frames = zip(*open_source(data).held_back(size, limit), strict=True)
    return HeldBack(torch.stack(photos), torch.stack(frames))


@torch.no_grad()
def video_figures(
    generator: Generator, held: HeldBack, networks: FigureNetworks | None = None, *, batch: int = 2
) -> tuple[dict[str, float], Tensor]:
    """Figures of whole generated videos (``metrics.video_scores``), and the videos.

    FVD over the few videos held back here is strongly biased: it compares validations of one run at best.
    """
    made = _generated(generator, held.photos, STEPS_A_VIDEO, batch)
    return video_scores(made, held.frames, networks), made


@torch.no_grad()
def frame_figures(
    generator: Generator,
    held: HeldBack,
    number: int,
    networks: FigureNetworks | None = None,
    *,
    batch: int = 2,
) -> tuple[dict[str, float], Tensor]:
    """Figures of the one frame of a comparison model, without FVD, and the frames ``(N, 1, S, S)``.

    Args:
        generator: its three outputs are one frame, so their mean is judged.
        held: gives the true frames.
        number: which of the twelve it should be.
        networks: for LPIPS.
        batch: photographs at a time.
    """
    made = _generated(generator, held.photos, 1, batch).mean(1, keepdim=True)
    still = FigureNetworks(lpips=networks.lpips) if networks else None
    return video_scores(made, held.frames[:, number : number + 1], still), made


def _generated(generator: Generator, photos: Tensor, steps: int, batch: int) -> Tensor:
    device = next(generator.parameters()).device
    return torch.cat(
        [
            generate_frames(generator, photos[start : start + batch].to(device), steps).float().cpu()
            for start in range(0, len(photos), batch)
        ]
    )


def single_frame_of(preset: Preset) -> int | None:
    """Number of the one frame that a comparison model makes, the middle of its triple; None for videos."""
    if not preset.single_frame:
        return None
    return preset.video_steps[0] + 1 if preset.video_steps else _VENOUS_FRAME


def sheet(photos: Tensor, rows: Sequence[Tensor]) -> Image.Image:
    """A picture of videos: each photo with six frames of each of ``rows``: true ones, generated ones below.

    Generated frames carry the word SYNTHETIC.
    """
    lines = []
    for index, photo in enumerate(photos):
        colour = to_uint8(photo).transpose(1, 2, 0)
        for number, videos in enumerate(rows):
            first = colour if number == 0 else np.zeros_like(colour)
            grey = [to_uint8(videos[index, t]) for t in _SHEET_FRAMES if t < videos.shape[1]]
            shown = [marked(frame) if number else frame for frame in grey]
            lines.append(np.concatenate([first, *(np.repeat(frame[..., None], 3, 2) for frame in shown)], 1))
    return Image.fromarray(np.concatenate(lines, 0))


def make_validation(
    out: Path,
    preset: Preset,
    *,
    held_back: str | Path | None = None,
    vessels: Sequence[str | Path] | None = None,
    probes: Sequence[str | Path] = (),
    networks: FigureNetworks | None = None,
    device: str = "cpu",
) -> Part | None:
    """The validation that a run asks for, its data read once; None where it asks for none.

    Views are half of the preset's size on a CPU, to stay cheap. Sheets of generated videos go to
    ``sheets/`` in the run's folder. What cannot be validated is refused here; a part that fails later is
    logged once and left out, and the run goes on.

    Args:
        out: the run's folder.
        preset: gives the size.
        held_back: prepared eyes or pairs that are not trained on.
        vessels: folder of photographs and folder of vessel masks.
        probes: tables of labels.
        networks: for LPIPS and FVD.
        device: of the run.

    Raises:
        NoPicturesError: there is nothing to validate on.
        ConfigError: a mask is missing, or a table of labels cannot be probed.
        MissingDependencyError: videos are to be judged without torchmetrics.
    """
    if not (held_back or vessels or probes):
        return None
    size = preset.size if str(device).startswith("cuda") else max(64, preset.size // 2)
    parts: dict[str, Part] = {}
    if held_back:
        import_torchmetrics("functional.image")  # that SSIM lacks it shows now, not after half an hour
        held = read_held_back(held_back, size)
        parts["--held-back"] = _held_back_part(out, held, single_frame_of(preset), networks)
    if vessels:
        parts["--vessels"] = _vessel_part(read_labelled(vessels[0], vessels[1], size, limit=28))
    for name, table in zip(probe_names(probes), probes, strict=True):
        probe_folds(probe_rows(table)[:PROBE_PICTURES], table)  # what is wrong with a table shows now, too
        parts[f"--probe {name}"] = _probe_part(name, table, size)
    return _in_turn(parts)


def validation_for(out: Path, preset: Preset, wanted: Validation, device: str) -> Part | None:
    """:func:`make_validation` of what a run asks for, with the networks of LPIPS and FVD read first.

    What is missing is said once, before training instead of after hours.
    """
    networks = FigureNetworks(
        lpips=load_lpips(wanted.lpips) if wanted.lpips else None,
        fvd=load_fvd(*wanted.fvd) if wanted.fvd else None,
    )
    if wanted.held_back and networks.missing:
        logger.info("validation without %s", " and ".join(networks.missing))
    return make_validation(
        out,
        preset,
        held_back=wanted.held_back,
        vessels=wanted.vessels,
        probes=wanted.probes,
        networks=networks,
        device=device,
    )


def _held_back_part(out: Path, held: HeldBack, number: int | None, networks: FigureNetworks | None) -> Part:
    """Figures and a sheet of whole videos, or of frame ``number`` alone."""
    true = held.frames if number is None else held.frames[:, number : number + 1]

    def judge(generator: Generator, step: int) -> dict[str, float]:
        if number is None:
            figures, made = video_figures(generator, held, networks)
        else:
            figures, made = frame_figures(generator, held, number, networks)
        path = out / "sheets" / f"step-{step:08d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        sheet(held.photos[:4], [true[:4], made[:4]]).save(path, pnginfo=png_notes())
        return figures

    return judge


def _vessel_part(labelled: LabelledViews) -> Part:
    return lambda generator, _: {"vessel_auroc": zero_shot_vessels(generator, labelled)}


def _probe_part(name: str, table: str | Path, size: int) -> Part:
    return lambda generator, _: {f"{name}/{k}": v for k, v in probe(generator, table, size).items()}


def _in_turn(parts: Mapping[str, Part]) -> Part:
    """All parts' figures; one that fails is left out, which is said the first time."""
    said: set[str] = set()

    def forgiven(name: str, generator: Generator, step: int) -> dict[str, float]:
        try:
            return parts[name](generator, step)
        except _FORGIVEN as error:
            if name not in said:
                logger.warning(_FAILED, name, step, error)
            said.add(name)
            return {}

    def validate(generator: Generator, step: int) -> dict[str, float]:
        return {key: value for name in parts for key, value in forgiven(name, generator, step).items()}

    return validate
