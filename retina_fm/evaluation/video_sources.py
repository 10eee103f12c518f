"""The door for videos: anything that gives twelve frames for a photo can be scored.

A function, a generator of this project, or a folder of frames that another method left. Seg2Vid, Med-DDPM and
ConsistI2V have no common output, so each is run by its own code into a folder, a video a sequence.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageSequence

from retina_fm.errors import ConfigError, MissingDependencyError
from retina_fm.pictures.reading import read_image
from retina_fm.vocabulary import FRAMES_A_VIDEO

OTHERS = ("seg2vid", "med-ddpm", "consisti2v")
"""The paper's comparison methods; write ``seg2vid=FOLDER`` among the models."""
_PICTURES = frozenset({".png", ".jpg", ".jpeg", ".tif", ".bmp"})


class VideoSource(NamedTuple):
    """Something that gives a video for a photo.

    Attributes:
        name: in the results.
        identity: what determines its videos.
        frames: photo and sequence name to ``uint8 (12, H, W)`` that cover the photo.
    """

    name: str
    identity: dict[str, Any]
    frames: Callable[[Path, str], NDArray[np.uint8]]


def from_model(name: str, source: str) -> VideoSource:
    """A source from a model with a generator.

    Raises:
        ConfigError: the model has none.
    """
    import retina_fm
    from retina_fm.models import load_generator, read_config, resolve

    load_generator(source)
    identity = {"kind": "generator", "weights_sha256": read_config(resolve(source)).sha256}
    return VideoSource(name, identity, lambda photo, _: retina_fm.generate(photo, source, mark=False).frames)


def from_folder(name: str, folder: str | Path) -> VideoSource:
    """A source from videos on disk: ``SEQUENCE/`` of pictures, ``SEQUENCE.gif``, ``.npy`` or ``.mp4``.

    Raises:
        ConfigError: there is no such folder.
    """
    place = Path(folder)
    if not place.is_dir():
        raise ConfigError(f"{name}: there is no folder {place} of generated videos. Run {name} into one.")
    files = sorted(path for path in place.rglob("*") if path.is_file())
    listed = [(str(path.relative_to(place)), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    digest = hashlib.sha256(repr(listed).encode()).hexdigest()
    return VideoSource(
        name, {"kind": "folder", "files": digest}, lambda _, sequence: read_video(place, sequence)
    )


def read_video(folder: Path, sequence: str) -> NDArray[np.uint8]:
    """A sequence's twelve frames from a folder of videos.

    Raises:
        ConfigError: it is not there in any form, or has no frames.
    """
    inside = folder / sequence
    if inside.is_dir():
        pictures = sorted(path for path in inside.iterdir() if path.suffix.lower() in _PICTURES)
        if not pictures:
            raise ConfigError(f"{inside} holds no frames. Save them as numbered PNG files.")
        return twelve(np.stack([np.asarray(read_image(path, str(path)).convert("L")) for path in pictures]))
    for suffix, read in ((".gif", _gif), (".npy", _npy), (".mp4", _mp4)):
        path = folder / f"{sequence}{suffix}"
        if path.is_file():
            return twelve(read(path))
    raise ConfigError(
        f"{folder} has no video of {sequence}: neither a folder of that name nor {sequence}.gif, .npy, .mp4."
    )


def twelve(frames: Any) -> NDArray[np.uint8]:
    """Any number of grey or colour frames as twelve grey ones, ``uint8 (12, H, W)``.

    Raises:
        ConfigError: not frames.
    """
    array = np.asarray(frames)
    if array.ndim == 4 and array.shape[-1] in (3, 4):
        array = array[..., :3].mean(-1).astype(array.dtype)
    if array.ndim == 4 and array.shape[-1] == 1:
        array = array[..., 0]
    if array.ndim != 3 or not len(array):
        raise ConfigError(f"Frames have shape {array.shape}; (T, H, W) or (T, H, W, 3) is needed.")
    if array.dtype.kind == "f":
        if not np.isfinite(array).all() or array.min() < -0.01 or array.max() > 1.01:
            raise ConfigError("Frames in floating point must be in [0, 1]; scale them, or save 8 bits.")
        array = np.rint(array.clip(0, 1) * 255)
    chosen = np.rint(np.linspace(0, len(array) - 1, FRAMES_A_VIDEO)).astype(int)
    return np.asarray(array[chosen], np.uint8)


def _gif(path: Path) -> NDArray[np.uint8]:
    with Image.open(path, formats=("GIF",)) as image:
        return np.stack([np.asarray(frame.convert("L")) for frame in ImageSequence.Iterator(image)])


def _npy(path: Path) -> Any:
    return np.load(path, allow_pickle=False)


def _mp4(path: Path) -> NDArray[np.uint8]:
    try:
        import av  # type: ignore[import-not-found, unused-ignore]
    except ImportError:
        raise MissingDependencyError(
            f"{path} needs PyAV, which is not installed. Install it with: pip install av (or "
            "'.[video]' in a checkout), or save the frames as PNG files."
        ) from None
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="gray") for frame in container.decode(video=0)])


def source_of(text: str) -> VideoSource:
    """A source from ``NAME=PLACE``: a weights folder, a folder of videos, or a model's name alone.

    Raises:
        ConfigError: neither.
    """
    name, _, place = text.partition("=")
    if place and Path(place).is_dir() and not (Path(place) / "config.json").is_file():
        return from_folder(name, place)
    return from_model(name, place or name)


def rated_items(
    sources: Sequence[VideoSource], sequences: Sequence[Any], size: int = 256
) -> dict[tuple[str, str], tuple[Any, Any, Any]]:
    """Photo, real and generated frames in one view, by source and sequence: what a rating sheet shows."""
    from retina_fm.training.pairs.opening import load_pair, open_pair

    items = {}
    for sequence in sequences:
        known = open_pair(sequence, size)
        photo, real, field = load_pair(sequence, size, known=known)
        for source in sources:
            made = in_view(source.frames(Path(sequence.photo), sequence.name), known.geometry) * field
            items[source.name, sequence.name] = (photo, real, made)
    return items


def in_view(frames: NDArray[np.uint8], geometry: Any) -> NDArray[np.uint8]:
    """Frames that cover a photo, brought into its view."""
    size = (geometry.width, geometry.height)
    sized = [np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.BILINEAR)) for frame in frames]
    views = [geometry.view_of(frame.astype(np.float32), "bilinear") for frame in sized]
    return np.asarray(np.rint(np.stack(views)).clip(0, 255), np.uint8)
