"""``write_report``: a photo to one self-contained page."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from PIL import Image

import retina_fm
from retina_fm._io.files import write_bytes
from retina_fm._io.layers import layered
from retina_fm._io.pages import picture_url, render
from retina_fm.errors import ConfigError, OutputError, PictureError
from retina_fm.explaining import HeatMap, explain
from retina_fm.explaining.heat_map import NOTE
from retina_fm.pictures import describe, read_picture
from retina_fm.pictures.pages import photo_of
from retina_fm.reporting.layers import layers_of
from retina_fm.reporting.measurements import reasons_of, rows_of
from retina_fm.reporting.ranges import healthy_ranges, healthy_sources
from retina_fm.reporting.reading import ReadPhoto, frames_of, read_with

_THUMB = 240
Figure = tuple[str, str, str, tuple[str, ...]]


def write_report(
    photo: Any,
    out: str | Path,
    model: str = "fundus2video-half",
    *,
    index: Any = None,
    adapter: Any = None,
    method: Literal["occlusion", "gradients"] = "occlusion",
    nearest: int = 5,
    allow_unreliable: bool = False,
    device: str | None = None,
) -> Path:
    """One photo on one page: what was read of it over the picture, its numbers, its generated angiogram.

    The page holds all its pictures and asks for nothing from anywhere. What the model's stated figures do not
    support is left out with the figures. Research use; not a medical device.

    Args:
        photo: any form that :func:`retina_fm.pictures.read_picture` takes.
        out: the page, ``.html``.
        model: one that maps vessels and anatomy; with a generator the page has the angiogram.
        index: an ``ImageIndex``: the pictures in it nearest to the photo are shown.
        adapter: a fitted classifier or regressor: its prediction and its heat map are shown (extra
            ``explain``).
        method: of the heat map; see :func:`retina_fm.explain`.
        nearest: how many pictures of the index.
        allow_unreliable: show maps and numbers too that are not to be relied on, marked so.
        device: the first GPU or the CPU without it.

    Returns:
        The page.

    Raises:
        ConfigError: the model does not map vessels and anatomy, the adapter cannot be explained, or ``out``
            ends otherwise.
        PictureError: the photo cannot be read.
        OutputError: the page cannot be written.
    """
    target = Path(out)
    if target.suffix.lower() not in (".html", ".htm"):
        raise ConfigError(f"{target}: a report is an .html file.")
    read = read_with(model, photo, device=device, allow_unreliable=allow_unreliable)
    heat = None if adapter is None else explain(adapter, photo, method)
    hits = [] if index is None else [_figure(hit) for hit in index.search(photo, nearest)]
    frames = frames_of(model, read.reading.view, device=device)
    page = report_page(read, describe(photo), frames, heat, hits, allow_unreliable=allow_unreliable)
    try:
        write_bytes(target, page.encode())
    except OSError as error:
        raise OutputError(f"{target} cannot be written ({error}). Choose another --out.") from error
    return target


def report_page(
    read: ReadPhoto,
    name: str,
    frames: Any = None,
    heat: HeatMap | None = None,
    hits: list[Figure] | None = None,
    *,
    allow_unreliable: bool = False,
) -> str:
    """The page as HTML, of what was read."""
    layers = layers_of(read, heat, allow_unreliable=allow_unreliable)
    ranges = healthy_ranges(read.weights_sha256)
    reasons = reasons_of(read.values)
    return render(
        "photo_report.html",
        title=Path(name).name,
        picture=layered(
            read.reading.view,
            layers.shown,
            frames,
            alt="The photo's field of view",
            frames_name="Generated angiogram",
            frames_note="made by a model from the photo; no dye was given",
        ),
        eye=_eye(read),
        poor=next((why for about, why in reasons if about.startswith("disc, fovea")), ""),
        heat=None if heat is None else {"target": heat.target, "predicted": heat.predicted, "note": NOTE},
        sections=rows_of(read.values, ranges, read.stated),
        sources=healthy_sources() if ranges else "",
        left_out=list(layers.left_out.items()),
        reasons=reasons,
        hits=hits or [],
        facts={
            "photo": f"{read.geometry.width} x {read.geometry.height} pixels",
            "model": f"{read.model}, weights {read.weights_sha256[:12]}",
            "made by": f"retina_fm {retina_fm.__version__}",
        },
    )


def _eye(read: ReadPhoto) -> str:
    eye, source = read.values.get("eye"), read.values.get("eye_source")
    seen = read.values.get("eye_in_picture")
    if eye is None:
        return "Which eye it is, is not seen."
    sure = read.values.get("eye_confidence")
    words = f"{eye.capitalize()} eye, by its {source}" + ("" if sure is None else f" ({sure:.2f} sure)")
    differs = seen is not None and seen != eye
    return (
        f"{words}; the picture shows a {seen} eye: a name is wrong, or it is mirrored."
        if differs
        else f"{words}."
    )


def _figure(hit: Any) -> Figure:
    lost: tuple[str, ...] = ()
    try:
        image = Image.fromarray(read_picture(photo_of(hit.path)))
    except (PictureError, OSError):
        image = Image.new("RGB", (_THUMB, _THUMB), (120, 124, 130))
        lost = ("its file cannot be read any more",)
    words = tuple(f"{key}: {value}" for key, value in hit.metadata.items() if value not in (None, ""))
    return (
        picture_url(image, _THUMB),
        f"{hit.rank}. {hit.score:.2f}",
        "",
        (Path(hit.path).name, *lost, hit.why, *words),
    )
