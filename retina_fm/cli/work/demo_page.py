"""The page that the demo writes: one self-contained HTML file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from retina_fm._io.pages import picture_url, render
from retina_fm.pictures import Transform, read_picture
from retina_fm.vocabulary import phase_of

_THUMB = 160
_FRAMES = (1, 3, 5, 7, 11)

Figure = tuple[str, str, str, tuple[str, ...]]
"""Address of the picture, heading, kind, and lines below it."""


@dataclass(frozen=True)
class Results:
    """What the page shows.

    Attributes:
        model: its name.
        paths: all photos.
        queries: how many of them are shown with their nearest others.
        nearest: ``(N, K)`` numbers of each photo's nearest others.
        similarity: ``(N, K)``.
        fellow_eyes: share of drawn eyes whose nearest is the same patient's other eye, or None.
        skipped: photos that could not be read.
        videos: photo, vessel map ``(S, S)`` in [0, 1] and frames ``uint8 (12, S, S)`` of some.
    """

    model: str
    paths: list[Path]
    queries: int
    nearest: np.ndarray
    similarity: np.ndarray
    fellow_eyes: float | None
    skipped: int
    videos: list[tuple[Path, np.ndarray, np.ndarray]]


def demo_page(results: Results) -> str:
    """The page as HTML."""
    return render(
        "demo.html",
        title="retina_fm demo",
        notes=_notes(results),
        videos=[_video(*one) for one in results.videos],
        neighbours=[_neighbours(results, index) for index in range(min(results.queries, len(results.paths)))],
    )


def _notes(results: Results) -> list[str]:
    notes = [f"{len(results.paths)} photos, model {results.model}."]
    if results.model == "fundus2video-random":
        notes.append("Random weights: a baseline to try the plumbing with, not a trained model.")
    if results.fellow_eyes is not None:
        notes.append(
            f"Nearest photo is the same patient's other eye for {results.fellow_eyes:.0%} of the drawn eyes."
        )
    if results.skipped:
        notes.append(f"{results.skipped} photos could not be read and were left out.")
    if len(results.paths) > results.queries:
        notes.append(f"The first {results.queries} are results.")
    return [*notes, "Research use; not a medical device."]


def _neighbours(results: Results, index: int) -> list[Figure]:
    query, nearest = results.paths[index], results.nearest[index]
    return [
        _figure(_thumbnail(query, outline=True), query.name, "query"),
        *(
            _figure(
                _thumbnail(results.paths[j]),
                results.paths[j].name,
                "",
                f"{results.similarity[index, rank]:.2f}",
            )
            for rank, j in enumerate(nearest)
        ),
    ]


def _video(path: Path, vessels: np.ndarray, frames: np.ndarray) -> list[Figure]:
    grey = (vessels * 255).round().clip(0, 255).astype(np.uint8)
    return [
        _figure(_thumbnail(path, outline=True), path.name, "query"),
        _figure(Image.fromarray(grey), "vessels"),
        *(
            _figure(Image.fromarray(frames[t]), f"frame {t + 1}", "", f"{phase_of(t)}, synthetic")
            for t in _FRAMES
        ),
    ]


def _thumbnail(path: Path, outline: bool = False) -> Image.Image:
    picture = read_picture(path)
    scale = _THUMB / max(picture.shape[:2])
    image = Image.fromarray(picture).resize(
        (round(picture.shape[1] * scale), round(picture.shape[0] * scale))
    )
    geometry = Transform().locate(picture)
    if outline and geometry.circle:
        y, x, r = geometry.centre_y * scale, geometry.centre_x * scale, geometry.radius * scale - 1
        ImageDraw.Draw(image).ellipse((x - r, y - r, x + r, y + r), outline="#39d98a", width=2)
    return image


def _figure(image: Image.Image, heading: str, kind: str = "", *lines: str) -> Figure:
    return picture_url(image, 2 * _THUMB), heading, kind, lines  # twice the shown size, for dense screens
