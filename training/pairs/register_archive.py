"""Registers the frames of a whole archive onto their photographs: in parallel, resumable, with a report."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Collection, Iterable
from dataclasses import asdict, dataclass, field, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from retina_fm._io.files import sha256_of, write_output
from retina_fm._io.folders import contents, own_folder, refuse_link, remove_owned
from retina_fm._io.jobs import check_workers, work_through
from retina_fm._io.progress import progress_bar
from retina_fm._io.seals import write_table_output
from retina_fm._io.strict_json import parse_json, sealed, unsealed
from retina_fm._io.tables import csv_bytes
from retina_fm.errors import ConfigError, OutputError, RetinaError
from retina_fm.pictures import read_picture
from retina_fm.training.pairs.opening import warp_frame
from retina_fm.training.pairs.registration import (
    ACCEPT,
    Registration,
    need_simpleitk,
    register_frames,
)
from retina_fm.training.pairs.table import Frame, PairSequence, read_pairs, table_of, write_pairs

_JOURNAL = ".registration.jsonl"  # a line a sequence, as soon as it is known
_OVERLAYS = "overlays"
_DIGITS = 12  # of the key in a checkerboard's name
_VERSION = 4
_TILES = 8  # of the checkerboard, a side
_SIDE = 512  # of the checkerboard in pixels
_DARK = 16  # of 255: beside the field of view


@dataclass(frozen=True)
class RegisterReport:
    """What became of an archive.

    Attributes:
        pairs: the table written, of the sequences that are left.
        sequences: how many are left, with a frame of every phase.
        frames: how many of their frames were accepted.
        rejected: (frame, reason) of each that cannot be read or does not lie on its photo well enough.
        dropped: (sequence, reason) of each that lost a phase.
        failed: (sequence, reason) of each whose photo cannot be read, or a file of which is missing.
    """

    pairs: Path
    sequences: int
    frames: int
    rejected: list[tuple[str, str]] = field(default_factory=list)
    dropped: list[tuple[str, str]] = field(default_factory=list)
    failed: list[tuple[str, str]] = field(default_factory=list)


@dataclass(frozen=True)
class _Job:
    """One sequence and what its result is kept under; picklable."""

    sequence: PairSequence
    key: str
    overlay: Path
    known: tuple[Registration, ...] = ()  # what an earlier call found: the overlay alone is missing


def _key(sequence: PairSequence) -> str:
    """Hash of everything that decides where frames lie: the pictures and the transforms that are given."""
    digest = hashlib.sha256(f"{_VERSION}".encode())
    digest.update(sha256_of(sequence.photo).encode())
    for frame in sequence.frames:
        digest.update(f"{sha256_of(frame.path)}:{frame.transform}".encode())
    return digest.hexdigest()


def _run(job: _Job) -> tuple[list[Registration], str]:
    """Where the frames of one sequence lie, or the reason why that cannot be known."""
    try:
        found = list(job.known) or register_frames(job.sequence)
        best = max(range(len(found)), key=lambda number: found[number].quality)
        frame = replace(job.sequence.frames[best], transform=found[best].transform)
        write_output(job.overlay, checkerboard(job.sequence.photo, frame))
        return found, ""
    except OutputError:
        raise  # the next sequence could not be written either
    except (RetinaError, OSError, ValueError) as error:
        return [], f"{type(error).__name__}: {error}"


def _known(journal: Path) -> dict[str, list[Registration]]:
    """What earlier calls found; a line that a kill cut short is left out."""
    lines = journal.read_text(encoding="utf-8").splitlines() if journal.is_file() else []
    return dict(entry for entry in map(_entry, lines) if entry is not None)


def _entry(line: str) -> tuple[str, list[Registration]] | None:
    try:
        entry = unsealed(parse_json(line))
        found = [Registration(**{**f, "transform": tuple(f["transform"])}) for f in entry["frames"]]
        return str(entry["key"]), found
    except (ValueError, KeyError, TypeError):
        return None


def _job(sequence: PairSequence, overlays: Path) -> _Job | str:
    """A sequence to register, or the reason why it cannot be."""
    try:
        key = _key(sequence)
        return _Job(sequence, key, overlays / f"{_file_name(sequence.name)}-{key[:_DIGITS]}.jpg")
    except OSError as error:
        return f"{type(error).__name__}: {error}"


def _remove_old_overlays(folder: Path, wanted: Collection[str], known: Iterable[str]) -> None:
    """Removes checkerboards of sequences that left the table, or changed: those that the journal knows."""
    ours = {key[:_DIGITS] for key in known}
    names = [name for name in contents(folder) if name not in wanted]
    remove_owned(folder, [name for name in names if name.endswith(".jpg") and _digits(name) in ours])


def _digits(name: str) -> str:
    """Digits of the key at the end of a checkerboard's name."""
    return name.removesuffix(".jpg").rpartition("-")[2]


def _refuse_archive(out: Path, source: Path) -> None:
    """Raises ConfigError where a ``pairs.csv`` in ``out`` is not one of an earlier call."""
    foreign = (out / "pairs.csv").exists() and not (out / _JOURNAL).exists()
    if foreign or out.resolve() == source.parent.resolve():
        raise ConfigError(
            f"--out {out} is an archive, whose pairs.csv would be replaced. Give another folder."
        )


def register_archive(
    pairs: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    accept: float = ACCEPT,
    workers: int | None = None,
    progress: bool | None = None,
) -> RegisterReport:
    """Finds where every frame of an archive lies on its photo and writes a table with the transforms.

    ``out`` gets ``pairs.csv`` with the frames that were accepted, ``registration.csv`` with the quality of
    every frame, and in ``overlays`` a checkerboard of photo and best frame of each sequence, to look at.
    Pictures stay where they are. Frames that have a transform keep it. A killed call continues where it was,
    and another ``accept`` registers nothing again, though every call reads all files to see what changed.

    Args:
        pairs: a ``pairs.csv``, or a folder that holds one.
        out: folder for the results; made when it is missing.
        accept: least quality of a frame, 0 to 1 (correlation of line strengths).
        workers: processes; one a core when None, in this process when 1.
        progress: show a bar; only on a terminal when None.

    Raises:
        ConfigError: the table has problems, ``accept`` is no share, or ``out`` holds an archive.
        OutputError: ``out`` cannot be written.
        MissingDependencyError: SimpleITK (extra ``train``) is not installed.
    """
    need_simpleitk()  # said once, not for every sequence
    check_workers(workers)
    if not 0 <= accept <= 1:
        raise ConfigError(f"accept is {accept:g}, but it is a correlation. Give 0 to 1.")
    source = table_of(pairs)
    _refuse_archive(Path(out), source)
    sequences = read_pairs(source)
    target = own_folder(out, "a registered archive", _JOURNAL)
    refuse_link(target / _OVERLAYS)
    failed: list[tuple[str, str]] = []
    jobs: list[_Job] = []
    with progress_bar(progress, len(sequences), "read", unit="sequence", few=0) as bar:
        for sequence in sequences:
            job = _job(sequence, target / _OVERLAYS)
            if isinstance(job, _Job):
                jobs.append(job)
            else:
                failed.append((sequence.name, job))
            bar.update()
    known = _known(target / _JOURNAL)
    todo = [
        replace(job, known=tuple(known.get(job.key, ())))
        for job in jobs
        if job.key not in known or not job.overlay.exists()
    ]
    done = work_through(_run, todo, workers=workers, note="register", unit="sequence", progress=progress)
    try:
        with (target / _JOURNAL).open("a", encoding="utf-8") as journal:
            for job, (found, reason) in done:
                if reason:
                    failed.append((job.sequence.name, reason))
                    continue
                if job.known:
                    continue
                known[job.key] = found
                entry = {"key": job.key, "frames": [asdict(one) for one in found]}
                journal.write("\n" + json.dumps(sealed(entry)))  # first: a line that was cut short is closed
                journal.flush()
    except OSError as error:
        raise OutputError(f"{target} cannot be written ({error}). Check that it has space.") from error
    _remove_old_overlays(target / _OVERLAYS, {job.overlay.name for job in jobs}, known)
    registered = [(job.sequence, known[job.key]) for job in jobs if job.key in known]
    return _write(target, registered, accept, failed)


def _write(
    out: Path,
    registered: Iterable[tuple[PairSequence, list[Registration]]],
    accept: float,
    failed: list[tuple[str, str]],
) -> RegisterReport:
    rows: list[tuple[str, str, str, int, str]] = []
    left: list[PairSequence] = []
    rejected: list[tuple[str, str]] = []
    dropped: list[tuple[str, str]] = []
    for sequence, found in registered:
        kept: list[Frame] = []
        for frame, one in zip(sequence.frames, found, strict=True):
            good = one.quality >= accept and not one.reason
            rows.append((sequence.name, str(frame.path), f"{one.quality:.3f}", int(good), one.reason))
            if good:
                kept.append(replace(frame, transform=one.transform))
            else:
                rejected.append((str(frame.path), one.reason or f"quality {one.quality:.2f}"))
        rest = replace(sequence, frames=tuple(kept))
        if rest.missing_phases:
            dropped.append((sequence.name, f"no {' and no '.join(rest.missing_phases)} frame is left"))
            continue
        left.append(rest)
    write_table_output(
        out / "registration.csv", csv_bytes(("sequence", "frame", "quality", "accepted", "reason"), rows)
    )
    if left:
        write_pairs(out / "pairs.csv", left)
    else:
        (out / "pairs.csv").unlink(missing_ok=True)  # an earlier call's would pass for this one's
    frames = sum(len(sequence.frames) for sequence in left)
    return RegisterReport(out / "pairs.csv", len(left), frames, rejected, dropped, failed)


def _file_name(sequence: str) -> str:
    """A sequence's name as part of a file's: names may be paths, and long."""
    return "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in sequence)[:100]


def checkerboard(photo: Path, frame: Frame) -> bytes:
    """Photo and registered frame in turns, as a JPEG: vessels that run on from tile to tile lie well.

    Raises:
        PictureError: a file cannot be read.
    """
    colour = read_picture(photo)
    height, width = colour.shape[:2]
    grey = read_picture(frame.path).mean(2).astype(np.float32)
    moved = warp_frame(grey, frame.transform or (1, 0, 0, 0, 1, 0), (height, width))
    scale = _SIDE / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    # in the frame vessels are bright, in the photo dark: turned round they are easier to follow
    turned = np.where(colour.max(2) > _DARK, 255 - colour[..., 1], 0).astype(np.uint8)
    first = np.asarray(Image.fromarray(turned).resize(size, Image.Resampling.BILINEAR))
    second = np.asarray(Image.fromarray(moved.clip(0, 255).astype(np.uint8)).resize(size))
    down, right = (np.arange(n) * _TILES // n for n in (size[1], size[0]))
    board = np.where((down[:, None] + right) % 2 == 0, _stretched(first), _stretched(second))
    buffer = BytesIO()
    Image.fromarray(board.astype(np.uint8)).save(buffer, "JPEG", quality=88)
    return buffer.getvalue()


def _stretched(grey: NDArray[np.uint8]) -> NDArray[np.floating[Any]]:
    low, high = np.percentile(grey, (2, 99.5))
    return np.asarray((grey - low) / max(float(high - low), 1.0) * 255).clip(0, 255)
