"""Renders sequences to disk: for looking, for sharing, and as paired videos like those of a clinic."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, PngImagePlugin

from retina_fm.errors import ConfigError, RetinaError
from retina_fm.training.lesion_shapes import LESION_TYPES
from retina_fm.training.pairs import PHASES, Frame, PairSequence, write_pairs
from retina_fm.training.prepare_folder import parallel
from retina_fm.training.prepared import PreparedEye, load_eye, write_whole

if TYPE_CHECKING:
    from retina_fm.training.render import Rendered


@dataclass(frozen=True)
class SimulateReport:
    """What was written: the table, how many sequences are new or were there, and what failed."""

    pairs: Path
    made: int
    reused: int
    failed: list[tuple[str, str]] = field(default_factory=list)


@dataclass(frozen=True)
class _Job:
    """One sequence; ``eye`` is a file, or None with a seed for a drawn retina."""

    eye: str | None
    name: str
    folder: Path
    seed: int
    size: int
    painting: float
    patient: str
    animate: bool


def _png(array: np.ndarray[Any, Any], **text: str) -> bytes:
    notes = PngImagePlugin.PngInfo()
    for key, value in {"Synthetic": "simulated angiogram, not a patient's", **text}.items():
        notes.add_text(key, value)
    buffer = BytesIO()
    Image.fromarray(array).save(buffer, "PNG", pnginfo=notes, compress_level=3)
    return buffer.getvalue()


def contact_sheet(rendered: Rendered, item: int = 0, tile: int = 256) -> Image.Image:
    """Photo, twelve frames, mask and lesions of one sequence on one picture."""
    photo = ((rendered.photo[item].permute(1, 2, 0).cpu().numpy() + 1) * 127.5).round().astype(np.uint8)
    frames = (rendered.frames[item].cpu().numpy() * 255).round().astype(np.uint8)
    lesions = rendered.lesions[item].cpu().numpy()
    colours = np.stack([lesions[0:2].max(0), lesions[2:4].max(0), lesions[4:6].max(0)], -1)
    mask = (rendered.mask[item, 0].cpu().numpy() * 255).astype(np.uint8)
    tiles = [Image.fromarray(photo), *(Image.fromarray(f) for f in frames), Image.fromarray(mask)]
    tiles.append(Image.fromarray((colours * 255).astype(np.uint8)))
    sheet = Image.new("RGB", (5 * tile, 3 * tile))
    for place, picture in enumerate(tiles):
        small = picture.convert("RGB").resize((tile, tile), Image.Resampling.BILINEAR)
        sheet.paste(small, ((place % 5) * tile, (place // 5) * tile))
    return sheet


def animation(rendered: Rendered, item: int = 0, side: int = 256) -> bytes:
    """The twelve frames as an animated GIF."""
    frames = (rendered.frames[item].cpu().numpy() * 255).round().astype(np.uint8)
    pictures = [Image.fromarray(f).resize((side, side), Image.Resampling.BILINEAR) for f in frames]
    buffer = BytesIO()
    pictures[0].save(buffer, "GIF", save_all=True, append_images=pictures[1:], duration=350, loop=0)
    return buffer.getvalue()


def write_sequence(rendered: Rendered, folder: Path, notes: dict[str, Any], *, animate: bool = True) -> None:
    """Writes one rendered sequence; ``sequence.json`` comes last and says that all is there.

    Raises:
        OutputError: the folder cannot be written.
    """
    frames = (rendered.frames[0].cpu().numpy() * 255).round().astype(np.uint8)
    photo = ((rendered.photo[0].permute(1, 2, 0).cpu().numpy() + 1) * 127.5).round().astype(np.uint8)
    write_whole(folder / "photo.png", _png(photo))
    for number, frame in enumerate(frames):
        write_whole(folder / f"frame{number:02d}.png", _png(frame))
    write_whole(folder / "mask.png", _png((rendered.mask[0, 0].cpu().numpy() * 255).astype(np.uint8)))
    for number, name in enumerate(LESION_TYPES):
        lesion = rendered.lesions[0, number].cpu().numpy()
        if lesion.max() > 0:
            write_whole(folder / f"lesion_{name}.png", _png((lesion * 255).round().astype(np.uint8)))
    if animate:
        buffer = BytesIO()
        contact_sheet(rendered).save(buffer, "PNG")
        write_whole(folder / "sheet.png", buffer.getvalue())
        write_whole(folder / "angiogram.gif", animation(rendered))
    record = {
        **notes,
        "synthetic": True,
        "times": rendered.times[0].tolist(),
        "painted": bool(rendered.painted[0]),
        "parameters": rendered.parameters.as_lists(),
    }
    write_whole(folder / "sequence.json", json.dumps(record).encode())


def laterality(eye: PreparedEye) -> str:
    """``right`` or ``left``: what is known, or the side of the fovea on which the disc lies.

    Seen from the front, the disc of a right eye lies to the right of its fovea. Mirrored photographs are not
    noticed.
    """
    known = str(eye.metadata.get("eye", ""))
    if known in ("left", "right"):
        return known
    return "right" if eye.disc_centre[1] > eye.fovea_centre[1] else "left"


def _run(job: _Job) -> tuple[bool, list[float], str, str]:
    """Renders one sequence unless it is there: (made now, times, side, reason of failure)."""
    done = job.folder / "sequence.json"
    if done.exists():
        record = json.loads(done.read_text())
        return False, list(record["times"]), str(record.get("side", "")), ""
    import torch

    from retina_fm.training.drawn import draw_retina
    from retina_fm.training.prepare import prepare_drawn
    from retina_fm.training.render import render_batch

    torch.set_num_threads(1)
    try:
        eye: PreparedEye = (
            prepare_drawn(draw_retina(job.seed, job.size)) if job.eye is None else load_eye(job.eye)
        )
        generator = torch.Generator().manual_seed(job.seed)
        # Painted lesions come on top of the photo; the photo itself is kept as it lies.
        rendered = render_batch([eye], generator, painting=job.painting, augment=False)
        side = laterality(eye)
        notes = {"name": job.name, "seed": job.seed, "side": side, "eye": eye.metadata}
        write_sequence(rendered, job.folder, notes, animate=job.animate)
    except (RetinaError, OSError, ValueError) as error:
        return False, [], "", f"{type(error).__name__}: {error}"
    return True, rendered.times[0].tolist(), side, ""


def _jobs(
    eyes: Sequence[Path],
    drawn: int,
    out: Path,
    sequences: int,
    size: int,
    seed: int,
    painting: float,
    animate: bool,
) -> Iterator[_Job]:
    for number, path in enumerate(eyes):
        stem = path.name.removesuffix(".eye.safetensors")
        for k in range(sequences):
            name = f"{stem}-{k}"
            yield _Job(str(path), name, out / name, seed + 1000 * number + k, size, painting, "", animate)
    for number in range(drawn):
        name = f"drawn-{seed + number}"
        yield _Job(None, name, out / name, seed + number, size, painting, name, animate)


def simulate(
    out: str | os.PathLike[str],
    *,
    eyes: Sequence[str | os.PathLike[str]] = (),
    drawn: int = 0,
    sequences: int = 1,
    size: int = 512,
    seed: int = 0,
    painting: float = 0.5,
    animate: bool = True,
    workers: int | None = None,
    progress: bool | None = None,
) -> SimulateReport:
    """Renders sequences of prepared eyes or drawn retinas into a folder with ``pairs.csv``.

    A sequence is a folder: photo, twelve frames, knowledge mask, lesion maps, contact sheet, GIF, and
    ``sequence.json`` with every parameter. Sequences that are there are kept, so a killed run continues.

    Args:
        out: folder; made when it is missing.
        eyes: files of prepared eyes.
        drawn: how many drawn retinas to render instead or beside.
        sequences: how many of each prepared eye.
        size: side of drawn retinas; prepared eyes keep theirs.
        seed: of everything random; the same seed gives the same sequences.
        painting: probability that lesions are painted.
        animate: write contact sheet and GIF, too.
        workers: processes; one a core when None, in this process when 1.
        progress: show a bar; only on a terminal when None.

    Raises:
        ConfigError: nothing to render.
        OutputError: ``pairs.csv`` cannot be written.
    """
    from tqdm.auto import tqdm

    if (not eyes and drawn < 1) or sequences < 1:
        raise ConfigError("There is nothing to simulate. Give photos, or --drawn N with N of 1 or more.")
    target = Path(out)
    target.mkdir(parents=True, exist_ok=True)
    jobs = list(_jobs([Path(e) for e in eyes], drawn, target, sequences, size, seed, painting, animate))
    made, reused, failed, rows = 0, 0, [], []
    bar = tqdm(
        total=len(jobs), unit="sequence", desc="simulate", disable=None if progress is None else not progress
    )
    with bar:
        for job, (fresh, times, side, reason) in zip(jobs, parallel(_run, jobs, workers), strict=True):
            bar.update()
            if reason:
                failed.append((job.name, reason))
                continue
            made, reused = made + fresh, reused + (not fresh)
            frames = tuple(
                Frame(job.folder / f"frame{k:02d}.png", PHASES[k // 4], float(time))
                for k, time in enumerate(times)
            )
            rows.append(
                PairSequence(job.name, job.folder / "photo.png", frames, job.patient, side, "simulated", "")
            )
    if rows:
        write_pairs(target / "pairs.csv", rows)
    return SimulateReport(target / "pairs.csv", made, reused, failed)
