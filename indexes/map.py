"""Every picture of an index in two dimensions, to look at: one HTML page that needs no other file."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from retina_fm._io.files import write_bytes
from retina_fm._io.pages import picture_url, render
from retina_fm.errors import ConfigError, MissingDependencyError, OutputError, PictureError, nearest
from retina_fm.indexes.metadata import PATIENT, column_of, describe
from retina_fm.indexes.spaces import checked_space
from retina_fm.pictures import read_picture
from retina_fm.pictures.pages import photo_of

if TYPE_CHECKING:
    from retina_fm.indexes.image_index import ImageIndex

METHODS = ("tsne", "umap")
_DIRECTIONS = 50
"""Principal directions that neighbours are looked for in: more of them cost time and change little."""
_PERPLEXITY = 30.0
_FEW = 5
"""With fewer pictures nothing is to be laid out: their two widest directions are shown."""
_GROUPS = 10
"""Colours that can be told apart; the values of fewer pictures share a grey."""
_LEVELS = 8
"""Up to so many different numbers are groups (grades); more are a scale (years)."""
_SIDE = 128
_NOTE = "Research use; not a medical device."


def save_map(
    index: ImageIndex,
    path: str | Path,
    *,
    colour: str | None = None,
    method: str = "tsne",
    space: str | None = None,
    points: int = 20_000,
    thumbnails: int = 2_000,
    seed: int = 0,
) -> Path:
    """Write a map: near points are pictures that the index finds alike; distances further off mean little.

    Args:
        index: whose pictures are shown.
        path: ``.html``.
        colour: metadata column that points are coloured by.
        method: ``tsne`` (scikit-learn) or ``umap`` (extra ``umap``).
        space: what is compared, as in :meth:`retina_fm.indexes.ImageIndex.search`.
        points: pictures that are shown at most, drawn where there are more; the page says so.
        thumbnails: pictures that the page holds at most, as 128 pixels; the page says so.
        seed: of the layout and of the draw.

    Returns:
        The page.

    Raises:
        ConfigError: another suffix, an unknown method or column, no pictures, numbers below 1.
        MissingDependencyError: ``umap`` without umap-learn.
        OutputError: the page cannot be written.
    """
    target = Path(path)
    if target.suffix.lower() not in (".html", ".htm"):
        raise ConfigError(f"{target}: a map is an .html file.")
    if min(points, thumbnails + 1) < 1:
        raise ConfigError(f"points={points} and thumbnails={thumbnails}: at least 1 and 0 are needed.")
    live = index.state.live_positions
    if not len(live):
        raise ConfigError("The index holds no picture; there is nothing to draw a map of.")
    values = None if colour is None else column_of(index.state, colour)
    chosen = _drawn(len(live), points, seed)
    places = live[chosen]
    compared = index.searcher_of(checked_space(space, index.state)).points_of(places)
    at = layout(compared, method, seed)
    known = describe(index.state, places.tolist())
    pictured = set(_drawn(len(places), thumbnails, seed).tolist())
    shown = [
        {
            "x": round(float(at[i, 0]), 4),
            "y": round(float(at[i, 1]), 4),
            "name": Path(known[place][0]).name,
            "about": [f"{key}: {value}" for key, value in known[place][1].items() if value not in (None, "")],
            "picture": _thumbnail(known[place][0]) if i in pictured else "",
        }
        for i, place in enumerate(places.tolist())
    ]
    tints = None if values is None else tints_of([values[i] for i in chosen.tolist()], str(colour))
    page = render(
        "map.html",
        title=f"{len(shown):,} pictures by likeness",
        words=_words(len(shown), len(live), len(pictured), method),
        data={"points": shown, "tints": tints, "colour": colour},
        note=_NOTE,
    )
    try:
        write_bytes(target, page.encode())
    except OSError as error:
        raise OutputError(f"{target} cannot be written ({error.strerror or error}).") from error
    return target


def layout(points: NDArray[np.float32], method: str = "tsne", seed: int = 0) -> NDArray[np.float64]:
    """``(N, D)`` to ``(N, 2)`` in [0, 1]: pictures that are near stay near.

    t-SNE (van der Maaten and Hinton 2008) or UMAP (McInnes et al. 2018) of the 50 widest principal
    directions, begun with the two widest.

    Raises:
        ConfigError: an unknown method.
        MissingDependencyError: ``umap`` without umap-learn.
    """
    if method not in METHODS:
        raise ConfigError(f"method is {method!r}. {nearest(method, METHODS)}")
    centred = np.asarray(points, np.float64) - np.mean(points, axis=0, dtype=np.float64)
    if len(points) <= max(_FEW, 2 * _DIRECTIONS):
        directions = np.linalg.svd(centred, full_matrices=False)[2]
    else:  # of the scatter, whose size does not grow with the number of pictures
        directions = np.linalg.eigh(centred.T @ centred)[1][:, ::-1].T
    narrow = centred @ directions[:_DIRECTIONS].T
    if len(points) < _FEW or not np.ptp(narrow):
        return _in_square(np.pad(narrow[:, :2], ((0, 0), (0, max(0, 2 - narrow.shape[1])))))
    if method == "umap":
        return _in_square(_umap(narrow, seed))
    from sklearn.manifold import TSNE

    perplexity = min(_PERPLEXITY, (len(points) - 1) / 3)
    start = narrow[:, :2] if narrow.shape[1] > 1 else np.pad(narrow, ((0, 0), (0, 1)))
    start = start / max(float(start[:, 0].std()), 1e-12) * 1e-4
    laid = TSNE(perplexity=perplexity, init=start, random_state=seed).fit_transform(narrow)
    return _in_square(np.asarray(laid))


def tints_of(values: list[Any], column: str) -> dict[str, Any]:
    """How values become colours: a scale of numbers, or groups, the commonest in colours of their own.

    Returns:
        ``kind`` (``scale`` or ``groups``); ``of``, a number in [0, 1] or a group's number for each picture,
        None where there is no value; for a scale its ends, for groups their names and sizes.
    """
    numbers = None if column == PATIENT else _numbers(values)
    if numbers is not None and len(set(numbers) - {None}) > _LEVELS:
        known = [number for number in numbers if number is not None]
        low, high = min(known), max(known)
        of = [None if n is None else round((n - low) / (high - low), 4) for n in numbers]
        return {"kind": "scale", "of": of, "low": low, "high": high, "without": of.count(None)}
    texts = [None if value is None or str(value).strip() == "" else str(value) for value in values]
    counts: dict[str, int] = {}
    for text in texts:
        if text is not None:
            counts[text] = counts.get(text, 0) + 1
    ranked = sorted(counts, key=lambda name: (-counts[name], name))
    own = sorted(ranked[:_GROUPS], key=_natural)
    number = {name: place for place, name in enumerate(own)}
    others = ranked[_GROUPS:]
    groups = [[name, counts[name]] for name in own]
    return {
        "kind": "groups",
        "of": [None if text is None else number.get(text, -1) for text in texts],
        "groups": groups,
        "others": [len(others), sum(counts[name] for name in others)],
        "without": texts.count(None),
    }


def _numbers(values: list[Any]) -> list[float | None] | None:
    """Values as numbers, where all that are there are; CSV columns are text."""
    found: list[float | None] = []
    for value in values:
        if value is None or str(value).strip() == "":
            found.append(None)
            continue
        try:
            number = float(value)
        except (TypeError, ValueError):
            return None
        if isinstance(value, bool) or not math.isfinite(number):
            return None
        found.append(number)
    return found if any(number is not None for number in found) else None


def _natural(name: str) -> tuple[int, float, str]:
    numbers = _numbers([name])
    return (1, 0.0, name) if numbers is None or numbers[0] is None else (0, numbers[0], name)


def _umap(points: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
    try:
        from umap import UMAP
    except ImportError:
        raise MissingDependencyError(
            "method='umap' needs umap-learn, which is not installed. Install it with: pip install umap-learn "
            "(or '.[umap]' in a checkout). method='tsne' needs nothing more."
        ) from None
    neighbours = min(15, len(points) - 1)
    return np.asarray(UMAP(n_neighbors=neighbours, random_state=seed, n_jobs=1).fit_transform(points))


def _in_square(at: NDArray[np.float64]) -> NDArray[np.float64]:
    low, spread = at.min(axis=0), max(float(np.ptp(at, axis=0).max()), 1e-12)
    middle = (np.ptp(at, axis=0) / spread - 1) / 2
    return np.asarray((at - low) / spread - middle)


def _drawn(count: int, most: int, seed: int) -> NDArray[np.int64]:
    """Numbers below ``count``, in order: all, or a draw."""
    if count <= most:
        return np.arange(count)
    random = np.random.Generator(np.random.PCG64(seed))
    return np.sort(random.choice(count, most, replace=False))


def _thumbnail(photo: str) -> str:
    """Empty where the picture cannot be read any more."""
    try:
        return picture_url(Image.fromarray(read_picture(photo_of(photo))), _SIDE, quality=75)
    except (PictureError, OSError):
        return ""


def _words(shown: int, total: int, pictured: int, method: str) -> list[str]:
    name = {"tsne": "t-SNE", "umap": "UMAP"}[method]
    said = [
        f"Near points are alike for the index ({name}); far distances, axes and sizes of heaps mean little."
    ]
    if shown < total:
        said.append(f"{shown:,} of {total:,} pictures are shown, drawn at random.")
    if pictured < shown:
        said.append(f"{pictured:,} of the points, drawn at random, show their picture.")
    return said
