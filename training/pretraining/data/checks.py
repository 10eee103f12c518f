"""Reads training data like a compiler: every problem with its place, before hours are spent on it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from retina_fm.errors import NoPicturesError, PictureError
from retina_fm.training.pairs.table import Problem, check_pairs
from retina_fm.training.simulator.eyes.prepared import load_eye


@dataclass(frozen=True)
class DataReport:
    """What a check found.

    Attributes:
        kind: "pairs" or "eyes".
        items: usable sequences or eyes.
        frames: frames of the usable sequences; 0 for eyes.
        problems: all of them, in the order of the file.
    """

    kind: str
    items: int
    frames: int
    problems: list[Problem] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether there is something to train on and nothing is wrong."""
        return self.items > 0 and not self.problems


def check_table(table: Path) -> DataReport:
    """Checks paired videos.

    Raises:
        PictureError: the table cannot be read.
        ConfigError: the table has no column that it needs.
    """
    report = check_pairs(table)
    return DataReport("pairs", len(report.sequences), report.frames, report.problems)


def check_eyes(folder: Path) -> DataReport:
    """Checks a folder of prepared eyes.

    Raises:
        NoPicturesError: there is none.
    """
    paths = sorted(folder.rglob("*.eye.safetensors")) if folder.is_dir() else []
    if not paths:
        raise NoPicturesError(
            f"{folder} holds neither pairs.csv nor prepared eyes. "
            "Photographs are prepared into a folder of their own: retina-fm prepare PHOTOS --out EYES, then "
            "--data EYES."
        )
    problems: list[Problem] = []
    sizes: dict[int, Path] = {}
    photos: dict[str, Path] = {}
    good = 0
    for path in paths:
        try:
            eye = load_eye(path)
        except PictureError as error:
            problems.append(Problem(0, str(error)))
            continue
        vessels = eye.map("artery") + eye.map("vein")
        found = []
        if float(vessels.max()) < 0.5:
            found.append(f"{path.name} has no vessels. Give vessel masks that belong to the photo, or none.")
        if eye.field_of_view.mean() < 0.1:
            found.append(f"{path.name} shows almost no retina. Leave this photo out.")
        if sizes and eye.size not in sizes:
            first = next(iter(sizes.items()))
            found.append(
                f"{path.name} is {eye.size} pixels, {first[1].name} {first[0]}. Prepare all with one size."
            )
        sizes.setdefault(eye.size, path)
        photo = str(eye.metadata.get("photo_sha256", ""))
        if photo in photos:
            found.append(f"{path.name} and {photos[photo].name} are of one photo. Delete one of them.")
        elif photo:
            photos[photo] = path
        problems.extend(Problem(0, text) for text in found)
        good += not found
    return DataReport("eyes", good, 0, problems)
