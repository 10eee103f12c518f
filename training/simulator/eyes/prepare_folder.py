"""Prepares whole folders: in parallel, resumable, one cached file an eye, and a report at the end."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from retina_fm._io.files import sha256_of
from retina_fm._io.folders import contents, own_folder
from retina_fm._io.jobs import check_workers, work_through
from retina_fm.errors import ConfigError, NoPicturesError, PictureError, RetinaError, nearest
from retina_fm.pictures.files import read_file
from retina_fm.pictures.masks import listed_masks, masks_of, read_coverage
from retina_fm.training.simulator.eyes.lesion_folders import ignored_folders, lesion_folders
from retina_fm.training.simulator.eyes.prepared import VERSION, eye_metadata
from retina_fm.vocabulary import LESION_TYPES

SUFFIX = ".eye.safetensors"
_EYE = re.compile(r".+-[0-9a-f]{12}\.eye\.safetensors|drawn-\d+-\d+-v\d+\.eye\.safetensors", re.DOTALL)
_DRAWN = 2  # version of how retinas are drawn and prepared
_READING = b"brightest channel"  # how masks are read: eyes whose masks were read otherwise are made again


@dataclass(frozen=True)
class PrepareReport:
    """What became of each photo.

    Attributes:
        eyes: files of prepared eyes, in the order of the photos, those that failed left out.
        made: how many were prepared now.
        reused: how many were there already.
        failed: (photo, reason) of each that could not be prepared.
        doubtful: (photo, trust) of each whose estimated vessels were believed too little; no eye was made.
        ignored: folders beside those of lesions that no lesion has the name of; they were not read.
    """

    eyes: list[Path]
    made: int
    reused: int
    failed: list[tuple[str, str]] = field(default_factory=list)
    ignored: list[Path] = field(default_factory=list)
    doubtful: list[tuple[str, float]] = field(default_factory=list)


@dataclass(frozen=True)
class _Job:
    """One photo with its masks; picklable."""

    photo: Path
    masks: dict[str, Path]
    lesions: dict[str, Path]
    out: Path
    size: int
    healthy: bool = False
    least_trust: float = 0.0
    seen_by: str | None = None
    seen_hash: str = ""  # of the weights of ``seen_by``
    older: tuple[Path, ...] = ()  # eyes of a photo of this name that lie in ``out`` already


def _key(job: _Job) -> str:
    """Hash of the photo, its masks, the size and the version: another mask makes another eye."""
    digest = hashlib.sha256(f"{VERSION}:{job.size}:{job.healthy}".encode())
    digest.update(job.seen_hash.encode())
    if job.masks or job.lesions:
        digest.update(_READING)
    for name, path in sorted({"photo": job.photo, **job.masks, **job.lesions}.items()):
        digest.update(name.encode())
        digest.update(hashlib.sha256(read_file(path, str(path))[0]).digest())
    return digest.hexdigest()


def _run(job: _Job) -> tuple[Path | None, bool, str | float]:
    """Prepares one photo: (file, made now, reason of failure or trust that was too low)."""
    from retina_fm.training.simulator.eyes.prepare import prepare_eye

    try:
        key = _key(job)
        path = job.out / f"{job.photo.stem}-{key[:12]}{SUFFIX}"
        photo_hash = sha256_of(job.photo)
        made = not path.exists()
        if made:
            lesions = {name: read_coverage(mask) for name, mask in job.lesions.items()}
            eye = prepare_eye(
                job.photo,
                size=job.size,
                lesions=lesions,
                healthy=job.healthy,
                seen_by=None if job.seen_by is None else _encoder(job.seen_by),
                metadata={"source": job.photo.name, "sha256": key, "photo_sha256": photo_hash},
                **{name: read_coverage(mask) for name, mask in job.masks.items()},
            )
            if _key(job) != key:
                return None, False, "The photo or a mask was changed while it was read. Run again."
            if (trust := _trust(eye.metadata)) < job.least_trust:
                return None, False, trust
            eye.save(path)
        elif (trust := _trust(eye_metadata(path))) < job.least_trust:
            path.unlink(missing_ok=True)
            return None, False, trust
        _remove_others(path, job.older, photo_hash)
    except (RetinaError, OSError, ValueError) as error:
        return None, False, f"{type(error).__name__}: {error}"
    return path, made, ""


@lru_cache(maxsize=1)
def _encoder(name: str) -> Any:
    """A worker's encoder, loaded once, in the number type that is quick here: maps of 0 to 1 need no more."""
    from retina_fm.encoding.precision import choose_device, fastest_precision
    from retina_fm.models import load

    return load(name, dtype=fastest_precision(choose_device("cpu")).dtype)


def _weights_that_see(name: str) -> str:
    """Hash of a model's weights; refused before any photo is read where the model maps no anatomy.

    Raises:
        ConfigError: it maps no vessels, arteries, veins, disc and fovea.
    """
    from retina_fm.models import read_config, resolve
    from retina_fm.training.simulator.eyes.seen import refuse_blind

    refuse_blind(_encoder(name))
    return read_config(resolve(name)).sha256


def _trust(metadata: Mapping[str, Any]) -> float:
    """How far an eye's vessels can be believed; given and drawn ones can."""
    return float(metadata.get("trust", 1.0))


def _remove_others(kept: Path, older: Iterable[Path], photo_hash: str) -> None:
    """Removes eyes of the same photo from other masks or of another size: training would see it twice."""
    for path in older:
        if path == kept or not path.exists():
            continue
        try:
            other = eye_metadata(path).get("photo_sha256")
        except PictureError:
            continue  # whose it is cannot be known; the check of the data names it
        if other == photo_hash:
            path.unlink(missing_ok=True)


def _eyes_by_photo(folder: Path) -> dict[str, tuple[Path, ...]]:
    """Eyes in a folder by the name of their photo; the folder is listed once, not once a photo."""
    found: dict[str, list[Path]] = {}
    for name in filter(_EYE.fullmatch, contents(folder)):
        found.setdefault(name.removesuffix(SUFFIX)[:-13], []).append(folder / name)
    return {name: tuple(paths) for name, paths in found.items()}


def _distinct(photos: Iterable[Path], by_name: bool) -> tuple[list[Path], list[tuple[str, str]]]:
    """Photos without copies of one name, and those that masks, found by name, cannot tell apart."""
    groups: dict[str, list[Path]] = {}
    for photo in dict.fromkeys(photos):
        groups.setdefault(photo.stem, []).append(photo)
    kept: list[Path] = []
    failed: list[tuple[str, str]] = []
    for stem, group in groups.items():
        different = _first_copies(group)
        if by_name and len(different) > 1:
            reason = f"{len(different)} photos are called {stem}, and masks go by that name. Rename them."
            failed.extend((str(photo), reason) for photo in different)
        else:
            kept.extend(different)
    return kept, failed


def _first_copies(group: list[Path]) -> list[Path]:
    if len(group) == 1:
        return group
    # A photo that cannot be read is a failure of its own later, not of the whole folder.
    keys = {path: sha256_of(path) if path.is_file() else str(path) for path in group}
    return list({key: path for path, key in reversed(keys.items())}.values())[::-1]


def _jobs(
    photos: Sequence[Path],
    out: Path,
    folders: Mapping[str, Path],
    lesions: Mapping[str, Path],
    size: int,
    about: Mapping[str, Any],
) -> Iterator[_Job | tuple[Path, str]]:
    found = {name: masks_of(photos, listed_masks(folder)) for name, folder in {**folders, **lesions}.items()}
    older = _eyes_by_photo(out)
    for photo in photos:
        given = {name: masks[photo.stem] for name, masks in found.items() if photo.stem in masks}
        missing = next((name for name in folders if name not in given), None)
        if missing is not None:
            where = folders[missing]
            yield photo, f"no {missing} mask for it in {where}; add one or leave --{missing} out"
            continue
        trees = {name: mask for name, mask in given.items() if name in folders}
        known = {name: mask for name, mask in given.items() if name in lesions}
        yield _Job(photo, trees, known, out, size, older=older.get(photo.stem, ()), **about)


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
    least_trust: float = 0.0,
    seen_by: str | None = None,
    size: int = 512,
    workers: int | None = None,
    progress: bool | None = None,
) -> PrepareReport:
    """Prepares every photo of a folder, once.

    An eye is one file, named after its photo and a hash of everything that went into it; files that are
    there are not made again, so a run that was killed continues. Eyes of the same photo in ``out`` from
    other masks or of another size are removed.

    Args:
        photos: a folder, a glob or paths.
        out: folder of the prepared eyes; made when it is missing.
        vessels: folder of masks named like the photos; estimated from the photos when None.
        arteries: likewise, together with ``veins``.
        veins: likewise.
        discs: folder of masks of the optic disc; found when None.
        lesions: folder with a sub-folder of masks for each known type, or the folders by type.
        healthy: the photos are known to show no lesions, so that what is not painted is certainly none.
        least_trust: photos whose estimated vessels are believed less than this (0 to 1) make no eye.
        seen_by: model whose maps say where vessels, arteries and veins, disc and fovea lie where no masks are
            given; a filter estimates them when None.
        size: side of the view in pixels.
        workers: processes; one a core when None, in this process when 1.
        progress: show a bar; only on a terminal when None.

    Raises:
        NoPicturesError: there are no photos.
        ConfigError: arteries without veins, an unknown type of lesion, or fewer than one worker.
        OutputError: ``out`` cannot be made.
    """
    from retina_fm.pictures import expand

    if (arteries is None) != (veins is None):
        raise ConfigError(
            "Arteries came without veins, or veins without arteries. Give both folders, or vessels alone."
        )
    given = {"vessels": vessels, "arteries": arteries, "veins": veins, "disc": discs}
    folders = {name: Path(folder) for name, folder in given.items() if folder is not None}
    types: dict[str, str | os.PathLike[str]] = {}
    ignored: list[Path] = []
    if isinstance(lesions, Mapping):
        types.update(lesions)
    elif lesions is not None:
        types.update(lesion_folders(lesions))
        ignored = ignored_folders(lesions)
    for name in types:
        if name not in LESION_TYPES:
            raise ConfigError(
                f"{name!r} is not a type of lesion that is known here. {nearest(name, LESION_TYPES)}"
            )
    for name, folder in {**folders, **types}.items():
        if not Path(folder).is_dir():
            raise ConfigError(f"The folder of {name} masks, {folder}, is not there. Check the path.")
    check_workers(workers)
    paths, failed = _distinct([Path(p) for p in expand(photos)], by_name=bool(folders or types))
    if not paths and not failed:
        raise NoPicturesError(f"{photos} holds no pictures. Give a folder of photographs.")
    target = own_folder(out, "a folder of prepared eyes", _EYE)
    about: dict[str, Any] = {"healthy": healthy, "least_trust": least_trust}
    if seen_by is not None:
        about |= {"seen_by": seen_by, "seen_hash": _weights_that_see(seen_by)}
    jobs: list[_Job] = []
    for item in _jobs(paths, target, folders, {k: Path(v) for k, v in types.items()}, size, about):
        if isinstance(item, _Job):
            jobs.append(item)
        else:
            failed.append((str(item[0]), item[1]))
    eyes, made, reused = [], 0, 0
    doubtful: list[tuple[str, float]] = []
    done = work_through(_run, jobs, workers=workers, note="prepare", unit="eye", progress=progress)
    for job, (path, fresh, reason) in done:
        if isinstance(reason, float):
            doubtful.append((str(job.photo), reason))
        elif path is None:
            failed.append((str(job.photo), reason))
        if path is None:
            continue
        eyes.append(path)
        made, reused = made + fresh, reused + (not fresh)
    return PrepareReport(eyes, made, reused, failed, ignored, doubtful)


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
        ConfigError: ``count`` or ``workers`` below 1.
        OutputError: ``out`` cannot be made.
    """
    if count < 1:
        raise ConfigError(f"{count} retinas cannot be drawn. Give 1 or more.")
    check_workers(workers)
    target = own_folder(out, "a folder of prepared eyes", _EYE)
    jobs = [(seed + k, size, target / f"drawn-{seed + k}-{size}-v{_DRAWN}{SUFFIX}") for k in range(count)]
    done = work_through(_draw, jobs, workers=workers, note="draw", unit="eye", progress=progress)
    made = sum(fresh for _, fresh in done)
    return PrepareReport([path for _, _, path in jobs], made, count - made)


def _draw(job: tuple[int, int, Path]) -> bool:
    seed, size, path = job
    if path.exists():
        return False
    from retina_fm.training.simulator.anatomy.drawn import draw_retina
    from retina_fm.training.simulator.eyes.prepare import prepare_drawn

    prepare_drawn(draw_retina(seed, size)).save(path)
    return True
