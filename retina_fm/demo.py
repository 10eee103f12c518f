"""The first minute: photos that the project draws, or the user's own, to embeddings and a page to look at."""

from __future__ import annotations

import base64
import html
import io
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from retina_fm._files import write_bytes
from retina_fm.errors import PictureError, WeightsNotFoundError
from retina_fm.models import resolve
from retina_fm.pictures import Geometry, expand, read_picture

PATIENTS = 6
_THUMB = 160
_SHOWN = 24


@dataclass(frozen=True)
class DemoReport:
    """What the demo made.

    Attributes:
        page: self-contained HTML.
        table: the embeddings.
        photos: encoded.
        model: used.
        fellow_eyes: share of drawn eyes whose nearest photo is the same patient's other eye, or None for
            the user's own photos.
        seconds: spent on encoding.
    """

    page: Path
    table: Path
    photos: int
    model: str
    fellow_eyes: float | None
    seconds: float


def choose_model(name: str | None) -> str:
    """The model asked for; else trained weights where they are, else the random baseline."""
    if name is not None:
        return name
    try:
        resolve("fundus2video")
    except WeightsNotFoundError:
        return "fundus2video-random"
    return "fundus2video"


def draw_photos(folder: Path, patients: int = PATIENTS, size: int = 512) -> Path:
    """Draw both eyes of some patients into a folder; photos that are there already are kept."""
    from retina_fm.training.drawn import draw_patient

    folder.mkdir(parents=True, exist_ok=True)
    for number in range(1, patients + 1):
        paths = [folder / f"patient{number:02d}_{side}.png" for side in ("right", "left")]
        if all(path.is_file() for path in paths):
            continue
        lesions = {"haemorrhage": 6, "hard_exudate": 8, "microaneurysm": 12} if number % 3 == 0 else {}
        for path, retina in zip(paths, draw_patient(number, size, lesions=lesions), strict=True):
            buffer = io.BytesIO()
            Image.fromarray(retina.photo).save(buffer, "PNG")
            write_bytes(path, buffer.getvalue())
    return folder


def run_demo(photos: Any, out: Path, *, model: str | None = None, progress: bool | None = None) -> DemoReport:
    """Encode photos and write a page with each one's field of view and its nearest others.

    Args:
        photos: any collection that ``encode`` takes, or None to draw some.
        out: folder for the page, the table and the drawn photos.
        model: a registered name; see :func:`choose_model`.
        progress: see ``encode``.

    Raises:
        PictureError: no photo could be read.
    """
    import pyarrow.parquet as pq

    from retina_fm.encoding import encode_to

    drawn = photos is None
    if drawn:
        photos = draw_photos(out / "photos")
    name = choose_model(model)
    paths = [str(path) for path in expand(photos)]
    report = encode_to(
        paths, out / "embeddings.parquet", name, on_error="skip", progress=progress, overwrite=True
    )
    if not report.rows:
        raise PictureError(f"None of {len(paths)} photos could be read; the first: {report.skipped[0][1]}")
    columns = pq.read_table(report.path).to_pydict()
    embeddings = np.array(columns["embedding"], np.float32)
    shown = [(out / path).resolve() for path in columns["path"]]
    nearest, similarity = neighbours(embeddings, k=min(3, len(shown) - 1))
    fellow = fellow_eye_share(shown, nearest) if drawn else None
    page = out / "index.html"
    write_bytes(
        page, _page(name, shown[:_SHOWN], shown, nearest, similarity, fellow, len(report.skipped)).encode()
    )
    return DemoReport(page, report.path, report.rows, name, fellow, report.seconds)


def neighbours(embeddings: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k nearest others of each row by cosine of the centred embeddings: indices and similarities."""
    centred = embeddings - embeddings.mean(axis=0)
    unit = centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-12)
    similarity = unit @ unit.T
    np.fill_diagonal(similarity, -np.inf)
    order = np.argsort(-similarity, axis=1, kind="stable")[:, :k]
    return order, np.take_along_axis(similarity, order, axis=1)


def fellow_eye_share(paths: list[Path], nearest: np.ndarray) -> float:
    """Share of drawn photos whose nearest is the same patient's other eye."""
    patients = [re.sub(r"_(left|right)$", "", path.stem) for path in paths]
    return float(np.mean([patients[row[0]] == patients[i] for i, row in enumerate(nearest)]))


def _thumbnail(path: Path, outline: bool) -> str:
    from retina_fm.pictures import Transform

    picture = read_picture(path)
    geometry: Geometry = Transform().locate(picture)
    scale = _THUMB / max(picture.shape[:2])
    image = Image.fromarray(picture).resize(
        (round(picture.shape[1] * scale), round(picture.shape[0] * scale))
    )
    if outline and geometry.circle:
        y, x, r = geometry.centre_y * scale, geometry.centre_x * scale, geometry.radius * scale - 1
        ImageDraw.Draw(image).ellipse((x - r, y - r, x + r, y + r), outline="#39d98a", width=2)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=88)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def _page(
    model: str,
    queries: list[Path],
    paths: list[Path],
    nearest: np.ndarray,
    similarity: np.ndarray,
    fellow: float | None,
    skipped: int,
) -> str:
    rows = []
    for index, query in enumerate(queries):
        hits = "".join(
            f'<figure><img src="{_thumbnail(paths[j], False)}" alt=""><figcaption>'
            f"{html.escape(paths[j].name)}<br>{similarity[index, rank]:.2f}</figcaption></figure>"
            for rank, j in enumerate(nearest[index])
        )
        rows.append(
            f'<section><figure class="query"><img src="{_thumbnail(query, True)}" alt="">'
            f"<figcaption>{html.escape(query.name)}</figcaption></figure>{hits}</section>"
        )
    notes = [f"{len(paths)} photos, model {html.escape(model)}."]
    if model == "fundus2video-random":
        notes.append("Random weights: a baseline to try the plumbing with, not a trained model.")
    if fellow is not None:
        notes.append(f"Nearest photo is the same patient's other eye for {fellow:.0%} of the drawn eyes.")
    if skipped:
        notes.append(f"{skipped} photos could not be read and were left out.")
    if len(paths) > len(queries):
        notes.append(f"The first {len(queries)} are shown.")
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>retina_fm demo</title><style>'
        "body{font:15px/1.45 system-ui,sans-serif;margin:2rem auto;max-width:60rem;padding:0 1rem}"
        "section{display:flex;gap:1rem;margin:0 0 1.2rem;flex-wrap:wrap}"
        "figure{margin:0;width:160px}img{width:160px;border-radius:6px;background:#000}"
        "figcaption{font-size:12px;color:#566;overflow-wrap:anywhere}"
        ".query{border-right:1px solid #ccd;padding-right:1rem}</style>"
        f"<h1>retina_fm demo</h1><p>{' '.join(notes)}</p>"
        "<p>Left: photo with the field of view that was found. Right: its nearest others, with similarity. "
        "Research use; not a medical device.</p>" + "".join(rows) + "</html>"
    )
