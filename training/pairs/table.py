"""Paired videos on disk: ``pairs.csv``, one row a frame, written by the simulator and by clinics alike.

Columns: ``sequence, photo, frame, phase, time_s, patient_id, eye, source, split`` and, optionally,
``transform`` (six numbers, an affine from the frame's pixels (x, y) to the photo's). Paths are relative to
the file.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from retina_fm._io.files import sha256_of
from retina_fm._io.persons import persons
from retina_fm._io.seals import write_table_output
from retina_fm._io.tables import csv_bytes, read_csv
from retina_fm.errors import ConfigError, PictureError, nearest
from retina_fm.vocabulary import EYES, FRAMES_A_PHASE, PHASES, SPLITS, TRAINED_ON

COLUMNS = ("sequence", "photo", "frame", "phase", "time_s", "patient_id", "eye", "source", "split")
_ONE_PART = "Keep a person in one part; rows without one are of train."
FAINT = 16  # of 255: 4095 of 65535, the most that 12 bits reach in a file of 16


@dataclass(frozen=True)
class Frame:
    """One row: a frame's path, phase, time in seconds or None, affine to the photo or None, row number."""

    path: Path
    phase: str
    time: float | None = None
    transform: tuple[float, ...] | None = None
    row: int = 0


@dataclass(frozen=True)
class PairSequence:
    """A photo and the frames of its angiogram, in the order of their phases and times."""

    name: str
    photo: Path
    frames: tuple[Frame, ...]
    patient_id: str = ""
    eye: str = ""
    source: str = ""
    split: str = ""

    @property
    def part(self) -> str:
        """The part that it belongs to: ``split``, or ``train`` where that is empty."""
        return self.split or TRAINED_ON

    @property
    def missing_phases(self) -> tuple[str, ...]:
        """Phases without a frame; a sequence to train on has none."""
        return tuple(phase for phase in PHASES if not any(frame.phase == phase for frame in self.frames))


@dataclass(frozen=True)
class Problem:
    """What is wrong, in which row of the file (the header is row 1; 0 where no row is to blame)."""

    row: int
    text: str

    def __str__(self) -> str:
        return f"row {self.row}: {self.text}" if self.row else self.text


@dataclass(frozen=True)
class PairsReport:
    """What a check found: usable sequences, their frames, and every problem."""

    sequences: list[PairSequence]
    frames: int
    problems: list[Problem] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems


def table_of(place: str | os.PathLike[str]) -> Path:
    """The file of a table: ``place`` itself, or ``pairs.csv`` in it where it is a folder."""
    return Path(place) / "pairs.csv" if Path(place).is_dir() else Path(place)


def is_pairs(place: str | os.PathLike[str]) -> bool:
    """Whether ``place`` is a table of paired videos, of an ending in any case, or a folder with one."""
    table = table_of(place)
    return table.suffix.lower() == ".csv" and (table.is_file() or not Path(place).is_dir())


def choose_frames(sequence: PairSequence) -> tuple[Frame, ...]:
    """The twelve frames of training: four evenly spaced of each phase, with repeats where there are fewer.

    Raises:
        ConfigError: a phase has no frame.
    """
    if sequence.missing_phases:
        raise ConfigError(
            f"Sequence {sequence.name!r} has no {sequence.missing_phases[0]} frame. Add one, or drop the "
            "sequence."
        )
    chosen: list[Frame] = []
    for phase in PHASES:
        frames = [frame for frame in sequence.frames if frame.phase == phase]
        places = np.rint(np.linspace(0, len(frames) - 1, FRAMES_A_PHASE)).astype(int)
        chosen.extend(frames[i] for i in places)
    return tuple(chosen)


def write_pairs(path: str | os.PathLike[str], sequences: Iterable[PairSequence]) -> None:
    """Writes ``pairs.csv``, whole or not at all; paths become relative to it.

    Raises:
        OutputError: the file cannot be written.
    """
    target = Path(path)
    home = target.parent.resolve()  # ".." of a linked folder is that of the folder itself
    rows, with_transform = [], False
    for s in sequences:
        for f in s.frames:
            time = "" if f.time is None else f"{f.time:.3f}"
            affine = "" if f.transform is None else " ".join(f"{v:.8g}" for v in f.transform)
            with_transform |= bool(affine)
            names = (_relative(path, home) for path in (s.photo, f.path))
            rows.append([s.name, *names, f.phase, time, s.patient_id, s.eye, s.source, s.split, affine])
    columns = (*COLUMNS, "transform") if with_transform else COLUMNS
    write_table_output(target, csv_bytes(columns, (row[: len(columns)] for row in rows)))


def _relative(path: Path, home: Path) -> str:
    """A path as seen from ``home``; absolute where they share no drive."""
    whole = Path(path).parent.resolve() / Path(path).name
    try:
        return os.path.relpath(whole, home).replace(os.sep, "/")
    except ValueError:
        return whole.as_posix()


def _number(cell: str, what: str, row: int, problems: list[Problem]) -> float | None:
    if not cell.strip():
        return None
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        problems.append(Problem(row, f"{what} is {cell!r}, not a number. Give seconds, or leave it empty."))
        return None
    return value


def _affine(cell: str, row: int, problems: list[Problem]) -> tuple[float, ...] | None:
    if not cell.strip():
        return None
    try:
        numbers = tuple(float(v) for v in cell.replace(",", " ").replace(";", " ").split())
    except ValueError:
        numbers = ()
    if len(numbers) != 6 or not all(map(math.isfinite, numbers)):
        problems.append(Problem(row, f"transform is {cell!r}. Give six numbers: a b c d e f."))
        return None
    if abs(numbers[0] * numbers[4] - numbers[1] * numbers[3]) < 1e-6:
        problems.append(
            Problem(row, f"transform {cell!r} flattens the frame. Give an affine that can be undone.")
        )
        return None
    return numbers


def _table(path: Path) -> list[tuple[int, dict[str, str]]]:
    """Line of the file and cells of each row."""
    try:
        columns, rows, lines = read_csv(path)
    except (OSError, ValueError) as error:
        raise PictureError(f"{path} cannot be read ({error}). Give a pairs.csv in UTF-8.") from error
    missing = [name for name in ("sequence", "photo", "frame", "phase") if name not in columns]
    if missing:
        raise ConfigError(
            f"{path} has no column {', '.join(missing)}. Its header must be: {','.join(COLUMNS)}"
        )
    return [
        (line, {column: cell.strip() for column, cell in row.items() if column})
        for line, row in zip(lines, rows, strict=True)
    ]


def parse_pairs(path: str | os.PathLike[str]) -> PairsReport:
    """Reads the table alone, without opening pictures; problems carry their row numbers.

    Raises:
        PictureError: the table cannot be read.
        ConfigError: a column is missing.
    """
    source = table_of(path)
    problems: list[Problem] = []
    groups: dict[str, _Group] = {}
    for row, cells in _table(source):
        name = cells["sequence"]
        if not name:
            problems.append(Problem(row, "sequence is empty. Name the sequence that this frame belongs to."))
            continue
        group = groups.setdefault(name, _Group(row))
        group.rows.append((row, cells))
        if not cells["frame"]:
            problems.append(Problem(row, f"frame of sequence {name!r} is empty. Give the path of a frame."))
            continue
        phase = cells["phase"]
        if phase not in PHASES:
            problems.append(Problem(row, f"phase {phase!r} is not a phase. {nearest(phase, PHASES)}"))
            continue
        if cells.get("eye", "") not in ("", *EYES):
            problems.append(Problem(row, f"eye is {cells['eye']!r}. Write left, right, or leave it empty."))
        if cells.get("split", "") not in ("", *SPLITS):
            problems.append(Problem(row, f"split is {cells['split']!r}. {nearest(cells['split'], SPLITS)}"))
        frame = Frame(
            path=source.parent / cells["frame"],
            phase=phase,
            time=_number(cells.get("time_s", ""), "time_s", row, problems),
            transform=_affine(cells.get("transform", ""), row, problems),
            row=row,
        )
        group.frames.append(frame)
    sequences = []
    for name, group in groups.items():
        sequence = _sequence(name, group, source.parent, problems)
        if sequence is not None:
            sequences.append(sequence)
    problems.extend(_split_problems(sequences, {name: group.row for name, group in groups.items()}))
    problems.sort(key=lambda p: p.row)
    return PairsReport(sequences, sum(len(s.frames) for s in sequences), problems)


@dataclass
class _Group:
    """Rows of one sequence, usable or not, and the frames of those that are."""

    row: int
    rows: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    frames: list[Frame] = field(default_factory=list)

    def cell(self, column: str) -> str:
        """What the sequence's rows say, where the first may be the only one that is filled in."""
        return next((cells[column] for _, cells in self.rows if cells.get(column)), "")


def _missing_parts(name: str, group: _Group) -> str:
    """What a sequence lacks, or nothing; rows that were refused already do not count as missing."""
    photos = {cells["photo"] for _, cells in group.rows if cells["photo"]}
    if not photos:
        return f"sequence {name!r} has no photo. Give the path of its colour photograph."
    if len(photos) > 1:
        return f"sequence {name!r} has several photos ({', '.join(sorted(photos))}). Keep one."
    if len(group.frames) < len(group.rows):
        return ""
    if len(group.frames) < 2:
        return f"sequence {name!r} has one frame. A sequence needs frames of all three phases."
    for phase in PHASES:
        if not any(frame.phase == phase for frame in group.frames):
            return f"sequence {name!r} has no {phase} frame. Add one, or drop the sequence."
    return ""


def _contradictions(name: str, group: _Group) -> list[Problem]:
    """A sequence is of one eye of one person, and in one part."""
    problems = []
    for column in ("patient_id", "eye", "split"):
        first = group.cell(column)
        other = next(((r, c[column]) for r, c in group.rows if c.get(column, first) not in ("", first)), None)
        if other is not None:
            problems.append(
                Problem(
                    other[0],
                    f"{column} of sequence {name!r} is {first!r} before and {other[1]!r} here. "
                    "Give all its rows one value.",
                )
            )
    return problems


def _sequence(name: str, group: _Group, folder: Path, problems: list[Problem]) -> PairSequence | None:
    lacks = _missing_parts(name, group)
    if lacks:
        problems.append(Problem(group.row, lacks))
        return None
    problems.extend(_contradictions(name, group))
    if {frame.phase for frame in group.frames} != set(PHASES):
        return None
    seen: set[Path] = set()
    for frame in group.frames:
        if frame.path in seen:
            problems.append(
                Problem(frame.row, f"frame {frame.path.name} is in sequence {name!r} twice. Drop one row.")
            )
        seen.add(frame.path)
    order = {phase: i for i, phase in enumerate(PHASES)}
    frames = sorted(group.frames, key=lambda f: (order[f.phase], f.time if f.time is not None else -1.0))
    timed = [f for f in frames if f.time is not None]
    for before, after in pairwise(timed):
        if before.time is not None and after.time is not None and after.time < before.time:
            problems.append(
                Problem(
                    after.row,
                    f"this {after.phase} frame at {after.time:g} s is earlier than the {before.phase} frame "
                    f"at {before.time:g} s. Check phase and time_s.",
                )
            )
            break
    return PairSequence(
        name,
        folder / group.cell("photo"),
        tuple(frames),
        group.cell("patient_id"),
        group.cell("eye"),
        group.cell("source"),
        group.cell("split"),
    )


def _split_problems(sequences: Sequence[PairSequence], first_row: dict[str, int]) -> list[Problem]:
    """A person, or a photo, in two parts would be trained on and tested on."""
    homes: dict[tuple[str, str], tuple[str, str]] = {}
    problems = []
    for s, person in zip(sequences, persons([s.patient_id for s in sequences]), strict=True):
        photo = os.path.normpath(s.photo)
        for what, key, shown in (("patient", person, s.patient_id), ("photo", photo, s.photo.name)):
            home, written = homes.setdefault((what, key), (s.part, shown)) if key else (s.part, shown)
            if home == s.part:
                continue
            other = f" (as {written!r})" if what == "patient" and written != shown else ""
            text = f"{what} {shown!r} is in {home}{other} and in {s.part}. {_ONE_PART}"
            problems.append(Problem(first_row[s.name], text))
            break  # the photo of a person in two parts is the same fault
    return problems


def _copied_photos(sequences: Sequence[PairSequence]) -> list[Problem]:
    """Copies of one photo under two paths that lie in two parts."""
    homes: dict[str, PairSequence] = {}
    problems = []
    for s in sequences:
        home = homes.setdefault(sha256_of(s.photo), s)
        same_path = os.path.normpath(home.photo) == os.path.normpath(s.photo)
        if home.part != s.part and not same_path:
            text = f"photo of sequence {s.name!r} is a copy of that of {home.name!r}, but they are in "
            text += f"{s.part} and in {home.part}. {_ONE_PART}"
            problems.append(Problem(min(frame.row for frame in s.frames), text))
    return problems


def _picture_problems(sequence: PairSequence) -> list[Problem]:
    from retina_fm.pictures import read_picture

    problems = []
    first = sequence.frames[0].row
    try:
        photo = read_picture(sequence.photo)
    except PictureError as error:
        return [Problem(first, f"photo of sequence {sequence.name!r}: {error}")]
    brightest = 0
    known: dict[bytes, Frame] = {}
    for frame in sequence.frames:
        try:
            picture = read_picture(frame.path)
        except PictureError as error:
            problems.append(Problem(frame.row, str(error)))
            continue
        twin = known.setdefault(hashlib.sha256(picture.tobytes()).digest(), frame)
        if twin.path != frame.path:  # one path twice is a problem of the table
            text = f"{frame.path.name} is a copy of {twin.path.name}. Give another frame, or drop the row."
            problems.append(Problem(frame.row, text))
        if is_coloured(picture):
            problems.append(
                Problem(
                    frame.row,
                    f"{frame.path.name} is in colour. Angiogram frames are grey: is this a photograph?",
                )
            )
        shape = picture.shape[:2]
        expected = photo.shape[:2]
        if frame.transform is None and shape != expected:
            problems.append(
                Problem(
                    frame.row,
                    f"{frame.path.name} is {shape[1]} x {shape[0]} pixels, not "
                    f"{expected[1]} x {expected[0]}. "
                    "Resize it to the photo's pixels, give a transform, or find it with: retina-fm register",
                )
            )
        brightest = max(brightest, int(picture.max()))
    if 0 < brightest <= FAINT:
        text = (
            f"the brightest pixel of sequence {sequence.name!r} is {brightest} of 255. Frames of 12 bits in "
        )
        problems.append(Problem(first, text + "files of 16 bits have to be multiplied by 16."))
    return problems


def is_coloured(picture: NDArray[np.uint8]) -> bool:
    """Whether a picture's channels differ by more than compression explains."""
    step = max(1, picture.shape[0] // 128)
    small = picture[::step, ::step].astype(np.int16)
    return bool(np.mean(small.max(2) - small.min(2)) > 6)


def check_pairs(path: str | os.PathLike[str]) -> PairsReport:
    """Reads the table like a compiler and opens every picture; all problems, by row.

    Sequences with a problem in their pictures are left out of ``sequences``.
    """
    report = parse_pairs(path)
    good, problems = [], list(report.problems)
    for sequence in report.sequences:
        found = _picture_problems(sequence)
        problems.extend(found)
        if not found:
            good.append(sequence)
    problems.extend(_copied_photos(good))
    problems.sort(key=lambda p: p.row)
    return PairsReport(good, sum(len(s.frames) for s in good), problems)


def read_pairs(path: str | os.PathLike[str], *, split: str | None = None) -> list[PairSequence]:
    """Sequences of a table, of one part or of all; rows without a part are of ``train``.

    Raises:
        ConfigError: the table has problems; the message lists the first of them with row numbers.
    """
    report = parse_pairs(path)
    if report.problems:
        shown = "; ".join(map(str, report.problems[:5]))
        more = f"; and {len(report.problems) - 5} more" if len(report.problems) > 5 else ""
        raise ConfigError(
            f"{path} has {len(report.problems)} problems: {shown}{more}. "
            f"See: retina-fm pretrain --check {path}"
        )
    return [s for s in report.sequences if split is None or s.part == split]
