"""The first minute: photos that the project draws, or the user's own, to embeddings and a page to look at."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from retina_fm._io.files import write_bytes
from retina_fm._io.folders import own_folder
from retina_fm.cli.work.demo_page import Results, demo_page
from retina_fm.errors import ConfigError, PictureError, WeightsNotFoundError
from retina_fm.metrics.recall import nearest_others
from retina_fm.models import resolve
from retina_fm.pictures import expand
from retina_fm.pictures.marks import marked, png_notes

PATIENTS = 6
VIDEOS = 3
"""Photos whose angiogram is generated: some seconds each."""
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
    """Draw both eyes of some patients into a folder; photos that are there already are kept.

    Each carries the word SYNTHETIC outside its field of view, and says so in its metadata.
    """
    from retina_fm.training.simulator.anatomy.drawn import draw_patient

    own_folder(folder, "a folder of drawn photos", re.compile(r"patient\d\d_(left|right)\.png"))
    for number in range(1, patients + 1):
        paths = [folder / f"patient{number:02d}_{side}.png" for side in ("right", "left")]
        if all(path.is_file() for path in paths):
            continue
        lesions = {"haemorrhage": 6, "hard_exudate": 8, "microaneurysm": 12} if number % 3 == 0 else {}
        for path, retina in zip(paths, draw_patient(number, size, lesions=lesions), strict=True):
            buffer = io.BytesIO()
            Image.fromarray(marked(retina.photo)).save(buffer, "PNG", pnginfo=png_notes())
            write_bytes(path, buffer.getvalue())
    return folder


def run_demo(photos: Any, out: Path, *, model: str | None = None, progress: bool | None = None) -> DemoReport:
    """Encode photos and write a page with each one's field of view and its nearest others.

    A model with a generator also shows the vessels and the synthetic angiogram of the first photos.

    Args:
        photos: any collection that ``encode`` takes, or None to draw some.
        out: folder for the page, the table and the drawn photos.
        model: a registered name; see :func:`choose_model`.
        progress: see ``encode``.

    Raises:
        PictureError: no photo could be read.
        OutputError: ``out`` holds something else, or cannot be written.
    """
    import pyarrow.parquet as pq

    from retina_fm.encoding import encode_to

    own_folder(out, "a demonstration", "index.html", "embeddings.parquet")
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
    results = Results(
        model=name,
        paths=shown,
        queries=_SHOWN,
        nearest=nearest,
        similarity=similarity,
        fellow_eyes=fellow,
        skipped=len(report.skipped),
        videos=videos_of(name, shown[:VIDEOS]),
    )
    page = out / "index.html"
    write_bytes(page, demo_page(results).encode())
    return DemoReport(page, report.path, report.rows, name, fellow, report.seconds)


def neighbours(embeddings: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k nearest others of each row by cosine of the centred embeddings: indices and similarities."""
    return nearest_others(embeddings - embeddings.mean(axis=0), np.arange(len(embeddings)), k)


def fellow_eye_share(paths: list[Path], nearest: np.ndarray) -> float:
    """Share of drawn photos whose nearest is the same patient's other eye."""
    patients = [re.sub(r"_(left|right)$", "", path.stem) for path in paths]
    return float(np.mean([patients[row[0]] == patients[i] for i, row in enumerate(nearest)]))


def videos_of(model: str, paths: list[Path]) -> list[tuple[Path, np.ndarray, np.ndarray]]:
    """Of each photo its path, vessel map ``(S, S)`` in [0, 1] and generated frames ``uint8 (12, S, S)``.

    Empty for a model without a generator.
    """
    import torch

    from retina_fm.encoding.precision import fastest_precision
    from retina_fm.models import load_generator, read_config
    from retina_fm.network.levels import to_uint8
    from retina_fm.network.unrolling import generate_frames, step_in
    from retina_fm.vessels.reading import read_vessels

    try:
        generator = load_generator(model).to(fastest_precision(torch.device("cpu")).dtype)
    except ConfigError:
        return []
    transform = read_config(resolve(model)).transform
    found = []
    for path in paths:
        view = torch.from_numpy(transform.normalise(transform.view(path)[0]))[None]
        frames = generate_frames(step_in(generator, generator.dtype), view)
        vessels = read_vessels(generator, view, frames)[0].numpy()
        grey = np.stack([marked(frame) for frame in to_uint8(frames[0])])
        found.append((path, vessels, grey))
    return found
