"""Renders sequences to disk: for looking, for sharing, and as paired videos like those of a clinic."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, PngImagePlugin

from retina_fm._io.files import sha256_of, write_output
from retina_fm._io.folders import own_folder, refuse_link, remove_owned
from retina_fm._io.jobs import check_workers, work_through
from retina_fm._io.strict_json import read_json, sealed
from retina_fm.errors import ConfigError, OutputError, RetinaError
from retina_fm.pictures.marks import marked
from retina_fm.pictures.sheets import grid
from retina_fm.pictures.sources import natural_key
from retina_fm.training.pairs.table import Frame, PairSequence, write_pairs
from retina_fm.training.simulator.eyes.prepared import PreparedEye, eye_size, load_eye
from retina_fm.vocabulary import EYES, FRAMES_A_VIDEO, LESION_TYPES, phase_of

if TYPE_CHECKING:
    from retina_fm.training.simulator.rendering.render import Rendered


NOTES = {"Synthetic": "simulated angiogram, not a patient's"}
"""What every picture says about itself."""
RECORD = "sequence.json"
WHAT = "a folder of simulated sequences"
SIGNS = ("pairs.csv", "eyes", re.compile(r"drawn-\d+"))
"""What says that :func:`simulate` wrote a folder."""


@dataclass(frozen=True)
class SimulateReport:
    """What was written: the table, how many sequences are new or were there, and what failed."""

    pairs: Path
    made: int
    reused: int
    failed: list[tuple[str, str]] = field(default_factory=list)


@dataclass(frozen=True)
class _Job:
    """One sequence; ``eye`` is a file, or None with a seed for a drawn retina; ``number`` counts an eye's."""

    eye: str | None
    name: str
    folder: Path
    seed: int
    number: int
    size: int
    painting: float
    animate: bool


def _png(array: np.ndarray[Any, Any]) -> bytes:
    notes = PngImagePlugin.PngInfo()
    for key, value in NOTES.items():
        notes.add_text(key, value)
    buffer = BytesIO()
    Image.fromarray(array).save(buffer, "PNG", pnginfo=notes, compress_level=3)
    return buffer.getvalue()


def contact_sheet(rendered: Rendered, item: int = 0, tile: int = 256) -> Image.Image:
    """Photo, twelve frames, mask and lesions of one sequence on one picture."""
    from retina_fm.network.levels import to_uint8

    photo = to_uint8(rendered.photo[item].permute(1, 2, 0))
    frames = (rendered.frames[item].cpu().numpy() * 255).round().astype(np.uint8)
    lesions = rendered.lesions[item].cpu().numpy()
    colours = np.stack([lesions[0:2].max(0), lesions[2:4].max(0), lesions[4:6].max(0)], -1)
    mask = (rendered.mask[item, 0].cpu().numpy() * 255).astype(np.uint8)
    like_a_patients = [Image.fromarray(photo), *(Image.fromarray(f) for f in frames)]
    maps = [Image.fromarray(mask), Image.fromarray((colours * 255).astype(np.uint8))]
    small = [
        np.asarray(picture.convert("RGB").resize((tile, tile), Image.Resampling.BILINEAR))
        for picture in [*like_a_patients, *maps]
    ]
    tiles = [*map(marked, small[: len(like_a_patients)]), *small[len(like_a_patients) :]]
    return Image.fromarray(grid(tiles, 5))


def animation(rendered: Rendered, item: int = 0, side: int = 256) -> bytes:
    """The twelve frames as an animated GIF that says that it is synthetic."""
    frames = (rendered.frames[item].cpu().numpy() * 255).round().astype(np.uint8)
    small = [Image.fromarray(f).resize((side, side), Image.Resampling.BILINEAR) for f in frames]
    pictures = [Image.fromarray(marked(np.asarray(picture))) for picture in small]
    buffer = BytesIO()
    comment = json.dumps(NOTES).encode()
    pictures[0].save(
        buffer, "GIF", save_all=True, append_images=pictures[1:], duration=350, loop=0, comment=comment
    )
    return buffer.getvalue()


def write_sequence(rendered: Rendered, folder: Path, notes: dict[str, Any], *, animate: bool = True) -> None:
    """Writes one rendered sequence; ``sequence.json`` comes last and says that all is there.

    Raises:
        OutputError: the folder cannot be written.
    """
    # A folder that is rendered again must not look complete, nor keep lesions that are not painted now.
    try:
        refuse_link(folder)
        remove_owned(folder, [RECORD, *(f"lesion_{name}.png" for name in LESION_TYPES)])
    except OSError as error:
        raise OutputError(f"{folder} cannot be written ({error}). Check that it is writable.") from error
    files = _pictures(rendered, animate)
    for name, content in files.items():
        write_output(folder / name, content)
    record = {
        **notes,
        "synthetic": True,
        "files": list(files),
        "times": rendered.times[0].tolist(),
        "painted": bool(rendered.painted[0]),
        "parameters": rendered.parameters.as_lists(),
    }
    write_output(folder / RECORD, json.dumps(sealed(record)).encode())


def _pictures(rendered: Rendered, animate: bool) -> dict[str, bytes]:
    """The files of a sequence by name."""
    from retina_fm.network.levels import to_uint8

    frames = (rendered.frames[0].cpu().numpy() * 255).round().astype(np.uint8)
    photo = to_uint8(rendered.photo[0].permute(1, 2, 0))
    files = {"photo.png": _png(photo)}
    files |= {f"frame{number:02d}.png": _png(frame) for number, frame in enumerate(frames)}
    files["mask.png"] = _png((rendered.mask[0, 0].cpu().numpy() * 255).astype(np.uint8))
    for number, name in enumerate(LESION_TYPES):
        lesion = rendered.lesions[0, number].cpu().numpy()
        if lesion.max() > 0:
            files[f"lesion_{name}.png"] = _png((lesion * 255).round().astype(np.uint8))
    if animate:
        files["sheet.png"] = _png(np.asarray(contact_sheet(rendered)))
        files["angiogram.gif"] = animation(rendered)
    return files


def laterality(eye: PreparedEye) -> str:
    """``right`` or ``left``: what is known, or the side of the fovea on which the disc lies.

    Seen from the front, the disc of a right eye lies to the right of its fovea. Mirrored photographs are not
    noticed.
    """
    known = str(eye.metadata.get("eye", ""))
    if known in EYES:
        return known
    return "right" if eye.disc_centre[1] > eye.fovea_centre[1] else "left"


def _record(folder: Path) -> dict[str, Any] | None:
    """What a sequence's folder says about itself; None where a file is missing or the record is damaged."""
    try:
        record = read_json(folder / RECORD, nan=True)
        complete = all((folder / name).is_file() for name in record["files"])
        return dict(record) if complete and len(record["times"]) == FRAMES_A_VIDEO else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _origin(job: _Job) -> dict[str, Any]:
    """Everything that decides a sequence; one that was rendered from anything else is rendered again."""
    return {
        "seed": job.seed,
        "number": job.number,
        "size": job.size if job.eye is None else eye_size(job.eye),
        "painting": job.painting,
        "eye_sha256": None if job.eye is None else sha256_of(Path(job.eye)),
    }


def _generator_seed(job: _Job, origin: dict[str, Any], eye: PreparedEye) -> int:
    """Drawn retinas go by their own seed, photos by what they show: neither by their place in a folder."""
    if job.eye is None:
        return job.seed
    identity = eye.metadata.get("photo_sha256") or origin["eye_sha256"]
    digest = hashlib.sha256(f"{job.seed}:{identity}:{job.number}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1  # torch takes what fits into 63 bits


def _is_done(job: _Job, origin: dict[str, Any]) -> bool:
    record = _record(job.folder)
    if record is None or {key: record.get(key, "") for key in origin} != origin:
        return False
    return not job.animate or {"sheet.png", "angiogram.gif"} <= set(record["files"])


def _run(job: _Job) -> tuple[bool, str]:
    """Renders one sequence unless it is there: (made now, reason of failure)."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # sums over threads would change the bytes
    try:
        return _render(job), ""
    except (RetinaError, OSError, ValueError) as error:
        return False, f"{type(error).__name__}: {error}"
    finally:
        torch.set_num_threads(threads)


def _render(job: _Job) -> bool:
    import torch

    from retina_fm.training.simulator.anatomy.drawn import draw_retina
    from retina_fm.training.simulator.eyes.prepare import prepare_drawn
    from retina_fm.training.simulator.rendering.render import render_batch

    origin = _origin(job)
    if _is_done(job, origin):
        return False
    eye = prepare_drawn(draw_retina(job.seed, job.size)) if job.eye is None else load_eye(job.eye)
    generator = torch.Generator().manual_seed(_generator_seed(job, origin, eye))
    # Painted lesions come on top of the photo; the photo itself is kept as it lies.
    rendered = render_batch([eye], generator, painting=job.painting, augment=False)
    patient = job.name if job.eye is None else ""
    notes = {"name": job.name, "patient_id": patient, **origin, "side": laterality(eye), "eye": eye.metadata}
    write_sequence(rendered, job.folder, notes, animate=job.animate)
    return True


def _distinct(eyes: Iterable[Path]) -> list[Path]:
    """Eyes without those that are given twice.

    Raises:
        ConfigError: two that differ have one name, and so would have one folder.
    """
    found: dict[str, Path] = {}
    for path in eyes:
        first = found.setdefault(path.name, path)
        same = first.resolve() == path.resolve()
        if not same and first.is_file() and path.is_file() and sha256_of(first) != sha256_of(path):
            raise ConfigError(f"{first} and {path} are two eyes of one name. Rename one of them.")
    return list(found.values())


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
    for path in eyes:
        stem = path.name.removesuffix(".eye.safetensors")
        for k in range(sequences):
            name = f"{stem}-{k}"
            yield _Job(str(path), name, out / name, seed, k, size, painting, animate)
    for number in range(seed, seed + drawn):
        name = f"drawn-{number}"
        yield _Job(None, name, out / name, number, 0, size, painting, animate)


def _row(folder: Path, out: Path) -> PairSequence | None:
    record = _record(folder)
    if record is None:
        return None
    frames = tuple(
        Frame(folder / f"frame{k:02d}.png", phase_of(k), float(time))
        for k, time in enumerate(record["times"])
    )
    name = folder.relative_to(out).as_posix()
    patient, side = str(record.get("patient_id", "")), str(record.get("side", ""))
    return PairSequence(name, folder / "photo.png", frames, patient, side, "simulated", "")


def _write_table(out: Path, known: Collection[Path]) -> list[tuple[str, str]]:
    """Writes ``pairs.csv`` of all sequences below ``out``; names those outside ``known`` that are damaged."""
    folders = sorted({path.parent for path in out.rglob(RECORD)}, key=lambda path: (natural_key(path), path))
    rows = {folder: _row(folder, out) for folder in folders}
    whole = [row for row in rows.values() if row is not None]
    if whole:
        write_pairs(out / "pairs.csv", whole)
    reason = f"{RECORD} is damaged or of an earlier version, or a picture is missing. Delete the folder."
    return [(str(folder), reason) for folder, row in rows.items() if row is None and folder not in known]


def check_settings(
    *, drawn: int = 0, sequences: int = 1, painting: float = 0.5, workers: int | None = None
) -> None:
    """Refuses what cannot be rendered, before anything is prepared.

    Raises:
        ConfigError: a number is out of its range.
    """
    if drawn < 0:
        raise ConfigError(f"{drawn} retinas cannot be drawn. Give 1 or more, or leave --drawn out.")
    if sequences < 1:
        raise ConfigError(f"{sequences} sequences of each photo are none. Give 1 or more.")
    if not 0 <= painting <= 1:
        raise ConfigError(f"painting is {painting:g}, but it is a share. Give 0 to 1.")
    check_workers(workers)


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
    ``sequence.json`` with every parameter. Sequences that are there are kept, so a killed run continues; one
    that was rendered with another seed, size or painting, or from another eye, is rendered again.
    ``pairs.csv`` lists every sequence below ``out``, those of earlier calls, too.

    Args:
        out: folder; made when it is missing.
        eyes: files of prepared eyes.
        drawn: how many drawn retinas to render instead or beside.
        sequences: how many of each prepared eye.
        size: side of drawn retinas; prepared eyes keep theirs.
        seed: of everything random; a photo's sequences depend on it and on the photo, not on other photos.
        painting: probability that lesions are painted.
        animate: write contact sheet and GIF, too.
        workers: processes; one a core when None, in this process when 1.
        progress: show a bar; only on a terminal when None.

    Raises:
        ConfigError: nothing to render, a number out of its range, or two eyes of one name.
        OutputError: ``out`` or ``pairs.csv`` cannot be written.
    """
    check_settings(drawn=drawn, sequences=sequences, painting=painting, workers=workers)
    if not eyes and drawn < 1:
        raise ConfigError("There is nothing to simulate. Give photos, or --drawn N with N of 1 or more.")
    chosen = _distinct(Path(e) for e in eyes)
    target = own_folder(out, WHAT, *SIGNS)
    jobs = list(_jobs(chosen, drawn, target, sequences, size, seed, painting, animate))
    made, reused = 0, 0
    failed: list[tuple[str, str]] = []
    done = work_through(_run, jobs, workers=workers, note="simulate", unit="sequence", progress=progress)
    for job, (fresh, reason) in done:
        if reason:
            failed.append((job.name, reason))
            continue
        made, reused = made + fresh, reused + (not fresh)
    failed += _write_table(target, {job.folder for job in jobs})
    return SimulateReport(target / "pairs.csv", made, reused, failed)
