"""The page that the demo writes: one self-contained HTML file."""

from __future__ import annotations

import base64
import html
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from retina_fm.pictures import Transform, read_picture
from retina_fm.vocabulary import phase_of

_THUMB = 160
_FRAMES = (1, 3, 5, 7, 11)


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
    parts = [_style(), f"<h1>retina_fm demo</h1><p>{' '.join(_notes(results))}</p>"]
    if results.videos:
        parts.append(
            "<h2>Synthetic angiograms</h2><p>Photo, vessels read off the generated frames, and five of the "
            "twelve frames. Generated from the photo alone: no angiography was done.</p>"
        )
        parts += [_video(*one) for one in results.videos]
    parts.append(
        "<h2>Similar eyes</h2><p>Left: photo with the field of view that was found. Right: its nearest "
        "others, with similarity.</p>"
    )
    parts += [_neighbours(results, index) for index in range(min(results.queries, len(results.paths)))]
    return "".join(parts) + "</html>"


def _notes(results: Results) -> list[str]:
    notes = [f"{len(results.paths)} photos, model {html.escape(results.model)}."]
    if results.model == "fundus2video-random":
        notes.append("Random weights: a baseline to try the plumbing with, not a trained model.")
    if results.fellow_eyes is not None:
        notes.append(
            f"Nearest photo is the same patient's other eye for {results.fellow_eyes:.0%} of the drawn eyes."
        )
    if results.skipped:
        notes.append(f"{results.skipped} photos could not be read and were left out.")
    if len(results.paths) > results.queries:
        notes.append(f"The first {results.queries} are shown.")
    return [*notes, "Research use; not a medical device."]


def _neighbours(results: Results, index: int) -> str:
    hits = "".join(
        _figure(
            _thumbnail(results.paths[j]), f"{results.paths[j].name}\n{results.similarity[index, rank]:.2f}"
        )
        for rank, j in enumerate(results.nearest[index])
    )
    query = results.paths[index]
    return f"<section>{_figure(_thumbnail(query, outline=True), query.name, 'query')}{hits}</section>"


def _video(path: Path, vessels: np.ndarray, frames: np.ndarray) -> str:
    pictures = [
        _figure(_thumbnail(path, outline=True), path.name, "query"),
        _figure(Image.fromarray((vessels * 255).round().clip(0, 255).astype(np.uint8)), "vessels"),
    ]
    for number in _FRAMES:
        caption = f"frame {number + 1}, {phase_of(number)}, synthetic"
        pictures.append(_figure(Image.fromarray(frames[number]), caption))
    return f"<section>{''.join(pictures)}</section>"


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


def _figure(image: Image.Image, caption: str, kind: str = "") -> str:
    small = image.copy()
    small.thumbnail((2 * _THUMB, 2 * _THUMB))  # twice the shown size, for dense screens
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=88)
    data = base64.b64encode(buffer.getvalue()).decode()
    text = html.escape(caption).replace("\n", "<br>")
    return (
        f'<figure class="{kind}"><img src="data:image/jpeg;base64,{data}" alt="">'
        f"<figcaption>{text}</figcaption></figure>"
    )


def _style() -> str:
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>retina_fm demo</title><style>'
        "body{font:15px/1.45 system-ui,sans-serif;margin:2rem auto;max-width:90rem;padding:0 1rem}"
        "section{display:flex;gap:1rem;margin:0 0 1.2rem;flex-wrap:wrap}"
        "figure{margin:0;width:160px}img{width:160px;border-radius:6px;background:#000}"
        "figcaption{font-size:12px;color:#566;overflow-wrap:anywhere}"
        ".query{border-right:1px solid #ccd;padding-right:1rem}</style>"
    )
