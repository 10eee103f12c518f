"""Prepares whole folders: in parallel, resumable, one cached file an eye, and a report at the end."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from PIL import Image

from retina_fm._files import sha256_of
from retina_fm._processes import start_workers
from retina_fm.errors import ConfigError, NoPicturesError, PictureError, RetinaError, nearest
from retina_fm.training.lesion_shapes import LESION_TYPES
from retina_fm.training.prepared import VERSION

# How people call the folders of masks.
LESION_FOLDERS = {
    "microaneurysm": ("microaneurysm", "microaneurysms", "ma"),
    "haemorrhage": ("haemorrhage", "haemorrhages", "hemorrhages", "he"),
    "hard_exudate": ("hard_exudate", "hard_exudates", "exudates", "ex"),
    "cotton_wool_spot": ("cotton_wool_spot", "cotton_wool_spots", "soft_exudates", "se"),
    "drusen": ("drusen",),
    "scar": ("scar", "scars"),
}
SUFFIX = ".eye.safetensors"
_In = TypeVar("_In")
_Out = TypeVar("_Out")


@dataclass(frozen=True)
class PrepareReport:
    """What became of each photo.

    Attributes:
        eyes: files of prepared eyes, in the order of the photos, those that failed left out.
        made: how many were prepared now.
        reused: how many were there already.
        failed: (photo, reason) of each that could not be prepared.
    """

    eyes: list[Path]
    made: int
    reused: int
    failed: list[tuple[str, str]] = field(default_factory=list)


@dataclass(frozen=True)
class _Job:
    """One photo with its masks; picklable."""

    photo: Path
    masks: dict[str, Path]
    lesions: dict[str, Path]
    out: Path
    size: int
    healthy: bool = False


def find_mask(folder: Path, photo: Path) -> Path | None:
    """The mask of a photo in ``folder``: same stem, or the stem and a suffix such as ``_1stHO``."""
    exact = [p for p in folder.glob(f"{photo.stem}.*") if p.is_file()]
    longer = [p for p in folder.glob(f"{photo.stem}[_-]*") if p.is_file()]
    found = sorted(exact) or sorted(longer)
    return found[0] if found else None


def lesion_folders(folder: str | os.PathLike[str]) -> dict[str, Path]:
    """Sub-folders of masks by type of lesion.

    Raises:
        ConfigError: no sub-folder has the name of a lesion.
    """
    found = {}
    for name, aliases in LESION_FOLDERS.items():
        for child in sorted(Path(folder).iterdir()):
            if child.is_dir() and child.name.lower() in aliases:
                found[name] = child
    if not found:
        raise ConfigError(
            f"{folder} has no folder named after a lesion. Name its sub-folders, for example: "
            + ", ".join(aliases[-1 if len(aliases) < 2 else 1] for aliases in LESION_FOLDERS.values())
        )
    return found


def _read_mask(path: Path) -> np.ndarray[Any, Any]:
    """Grey levels of a mask. A black one is an answer (there is nothing), so blank pictures are read, too."""
    try:
        with Image.open(path) as picture:
            return np.asarray(picture.convert("L"))
    except (OSError, ValueError) as error:
        raise PictureError(
            f"{path} cannot be read as a mask ({error}). Give a PNG, or leave it out."
        ) from error


def _key(job: _Job) -> str:
    """Hash of the photo, its masks, the size and the version: another mask makes another eye."""
    digest = hashlib.sha256(f"{VERSION}:{job.size}:{job.healthy}".encode())
    for name, path in sorted({"photo": job.photo, **job.masks, **job.lesions}.items()):
        digest.update(name.encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def _run(job: _Job) -> tuple[Path | None, bool, str]:
    """Prepares one photo: (file, made now, reason of failure)."""
    from retina_fm.training.prepare import prepare_eye

    try:
        key = _key(job)
        path = job.out / f"{job.photo.stem}-{key[:12]}{SUFFIX}"
        if path.exists():
            return path, False, ""
        lesions = {name: _read_mask(mask) for name, mask in job.lesions.items()}
        eye = prepare_eye(
            job.photo,
            size=job.size,
            lesions=lesions,
            healthy=job.healthy,
            metadata={"source": job.photo.name, "sha256": key, "photo_sha256": sha256_of(job.photo)},
            **{name: _read_mask(mask) for name, mask in job.masks.items()},
        )
        eye.save(path)
    except (RetinaError, OSError, ValueError) as error:
        return None, False, f"{type(error).__name__}: {error}"
    return path, True, ""


def _jobs(
    photos: Iterable[Path],
    out: Path,
    folders: Mapping[str, Path],
    lesions: Mapping[str, Path],
    size: int,
    healthy: bool,
) -> Iterator[_Job | tuple[Path, str]]:
    for photo in photos:
        masks = {}
        for name, folder in folders.items():
            mask = find_mask(folder, photo)
            if mask is None:
                yield photo, f"no {name} mask for it in {folder}; add one or leave --{name} out"
                break
            masks[name] = mask
        else:
            given = {name: mask for name, folder in lesions.items() if (mask := find_mask(folder, photo))}
            yield _Job(photo, masks, given, out, size, healthy)


def prepare_folder(
    photos: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    *,
    vessels: str | os.PathLike[str] | None = None,
    arteries: str | os.PathLike[str] | None = None,
    veins: str | os.PathLike[str] | None = None,
    discs: str | os.PathLike[str] | None = None,
    lesions: str | os.PathLike[str] | Mapping[str, str | os.PathLike[str]] | None = None,
    healthy: bool = False,
    size: int = 512,
    workers: int | None = None,
    progress: bool | None = None,
) -> PrepareReport:
    """Prepares every photo of a folder, once.

    An eye is one file, named after its photo and a hash of everything that went into it; files that are
    there are not made again, so a run that was killed continues.

    Args:
        photos: a folder, a glob or paths.
        out: folder of the prepared eyes; made when it is missing.
        vessels: folder of masks named like the photos; estimated from the photos when None.
        arteries: likewise, together with ``veins``.
        veins: likewise.
        discs: folder of masks of the optic disc; found when None.
        lesions: folder with a sub-folder of masks for each known type, or the folders by type.
        healthy: the photos are known to show no lesions, so that what is not painted is certainly none.
        size: side of the view in pixels.
        workers: processes; one a core when None, in this process when 1.
        progress: show a bar; only on a terminal when None.

    Raises:
        NoPicturesError: there are no photos.
        ConfigError: arteries without veins, or an unknown type of lesion.
    """
    from tqdm.auto import tqdm

    from retina_fm.pictures import expand

    if (arteries is None) != (veins is None):
        raise ConfigError(
            "Arteries came without veins, or veins without arteries. Give both folders, or vessels alone."
        )
    given = {"vessels": vessels, "arteries": arteries, "veins": veins, "disc": discs}
    folders = {name: Path(folder) for name, folder in given.items() if folder is not None}
    types = (
        dict(lesions)
        if isinstance(lesions, Mapping)
        else (lesion_folders(lesions) if lesions is not None else {})
    )
    for name in types:
        if name not in LESION_TYPES:
            raise ConfigError(
                f"{name!r} is not a type of lesion that is known here. {nearest(name, LESION_TYPES)}"
            )
    for name, folder in {**folders, **types}.items():
        if not Path(folder).is_dir():
            raise ConfigError(f"The folder of {name} masks, {folder}, is not there. Check the path.")
    paths = [Path(p) for p in expand(photos)]
    if not paths:
        raise NoPicturesError(f"{photos} holds no pictures. Give a folder of photographs.")
    target = Path(out)
    target.mkdir(parents=True, exist_ok=True)
    jobs: list[_Job] = []
    failed: list[tuple[str, str]] = []
    for item in _jobs(paths, target, folders, {k: Path(v) for k, v in types.items()}, size, healthy):
        if isinstance(item, _Job):
            jobs.append(item)
        else:
            failed.append((str(item[0]), item[1]))
    eyes, made, reused = [], 0, 0
    bar = tqdm(
        total=len(jobs), unit="eye", desc="prepare", disable=None if progress is None else not progress
    )
    with bar:
        for job, (path, fresh, reason) in zip(jobs, parallel(_run, jobs, workers), strict=True):
            bar.update()
            if path is None:
                failed.append((str(job.photo), reason))
                continue
            eyes.append(path)
            made, reused = made + fresh, reused + (not fresh)
    return PrepareReport(eyes, made, reused, failed)


def prepare_drawn_folder(
    count: int,
    out: str | os.PathLike[str],
    *,
    seed: int = 0,
    size: int = 512,
    workers: int | None = None,
    progress: bool | None = None,
) -> PrepareReport:
    """Draws and prepares ``count`` retinas with all their truth; those that are there are kept.

    Args:
        count: how many.
        out: folder of the prepared eyes; made when it is missing.
        seed: of the first; the others follow.
        size: side in pixels.
        workers: processes; one a core when None, in this process when 1.
        progress: show a bar; only on a terminal when None.

    Raises:
        ConfigError: ``count`` below 1.
    """
    from tqdm.auto import tqdm

    if count < 1:
        raise ConfigError(f"{count} retinas cannot be drawn. Give 1 or more.")
    target = Path(out)
    target.mkdir(parents=True, exist_ok=True)
    jobs = [(seed + k, size, target / f"drawn-{seed + k}-{size}-v{VERSION}{SUFFIX}") for k in range(count)]
    made = 0
    bar = tqdm(total=count, unit="eye", desc="draw", disable=None if progress is None else not progress)
    with bar:
        for fresh in parallel(_draw, jobs, workers):
            made += fresh
            bar.update()
    return PrepareReport([path for _, _, path in jobs], made, count - made)


def _draw(job: tuple[int, int, Path]) -> bool:
    seed, size, path = job
    if path.exists():
        return False
    from retina_fm.training.drawn import draw_retina
    from retina_fm.training.prepare import prepare_drawn

    prepare_drawn(draw_retina(seed, size)).save(path)
    return True


def parallel(work: Callable[[_In], _Out], jobs: Sequence[_In], workers: int | None) -> Iterator[_Out]:
    """Results in the order of the jobs, from worker processes or from this one."""
    count = min(workers or os.cpu_count() or 1, max(1, len(jobs)))
    if count == 1:
        yield from map(work, jobs)
        return
    with start_workers(count) as executor:
        yield from executor.map(work, jobs)
