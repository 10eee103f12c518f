"""Queries and what was found, to look at: one HTML page or one PNG that needs no other file."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from PIL import Image, ImageDraw, ImageFont

from retina_fm._io.files import write_bytes
from retina_fm._io.pages import picture_url, render
from retina_fm.errors import ConfigError, OutputError, PictureError
from retina_fm.indexes.metadata import agree
from retina_fm.pictures import read_picture
from retina_fm.pictures.pages import photo_of

if TYPE_CHECKING:
    from retina_fm.indexes.hits import Hit, Hits

_THUMB, _LARGE = 200, 320
_LINE = 14
_GAP = 12
_INK, _FAINT, _SAME = (32, 36, 44), (96, 104, 120), (22, 133, 84)
_NOTE = "Research use; not a medical device."


def save_gallery(
    shown: Sequence[Hits], path: str | Path, *, title: str = "Search", same: str = "patient_id"
) -> Path:
    """Write a gallery; the suffix decides the form.

    Args:
        shown: queries with their hits, a row each.
        path: ``.html`` or ``.png``.
        title: above all.
        same: metadata column in which a hit that agrees with its query is marked green.

    Raises:
        ConfigError: another suffix.
        OutputError: the file cannot be written.
    """
    target = Path(path)
    kind = target.suffix.lower()
    if kind not in (".html", ".htm", ".png"):
        raise ConfigError(f"{target}: a gallery is an .html or a .png file.")
    data = _sheet(shown, title, same) if kind == ".png" else _page(shown, title, same).encode()
    try:
        write_bytes(target, data)
    except OSError as error:
        raise OutputError(f"{target} cannot be written ({error.strerror or error}).") from error
    return target


class ShownPair(NamedTuple):
    """Two pictures of a page of pairs.

    Attributes:
        why: they are a pair, in words.
        first: one photo.
        first_lines: what is known of it.
        second: the other.
        second_lines: what is known of that.
    """

    why: str
    first: Any
    first_lines: list[str]
    second: Any
    second_lines: list[str]


def save_pair_page(pairs: Sequence[ShownPair], path: str | Path, title: str) -> Path:
    """Write a page with a row a pair, larger than a gallery's.

    Raises:
        ConfigError: a suffix other than ``.html``.
        OutputError: the file cannot be written.
    """
    target = Path(path)
    if target.suffix.lower() not in (".html", ".htm"):
        raise ConfigError(f"{target}: a page of pairs is an .html file.")
    rows = [
        [
            (picture_url(_thumbnail(pair.first, _LARGE)), pair.why, "", pair.first_lines),
            (picture_url(_thumbnail(pair.second, _LARGE)), "\N{NO-BREAK SPACE}", "", pair.second_lines),
        ]
        for pair in pairs
    ]
    try:
        write_bytes(target, render("pairs.html", title=title, rows=rows, note=_NOTE).encode())
    except OSError as error:
        raise OutputError(f"{target} cannot be written ({error.strerror or error}).") from error
    return target


def _thumbnail(photo: Any, side: int = _THUMB) -> Image.Image:
    """At most 200 pixels a side; a grey card where the picture cannot be read any more."""
    if photo is None:
        return _card("embedding")
    try:
        image = Image.fromarray(read_picture(photo_of(photo) if isinstance(photo, str) else photo))
    except (PictureError, OSError):
        return _card("no picture")
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    return image


def _card(text: str) -> Image.Image:
    card = Image.new("RGB", (_THUMB, _THUMB), (230, 232, 236))
    ImageDraw.Draw(card).text((_THUMB / 2, _THUMB / 2), text, fill=_FAINT, anchor="mm", font=_font())
    return card


def _agree(query: Mapping[str, Any], hit: Hit, same: str) -> bool:
    return agree(same, query.get(same), hit.metadata.get(same))


def _words(metadata: Mapping[str, Any]) -> list[str]:
    return [f"{key}: {value}" for key, value in metadata.items() if value not in (None, "")]


def _reason(hit: Hit) -> list[str]:
    """Why a hit was found, where there is more to say than that it is similar."""
    return [] if hit.why == "similar" else [hit.why]


def fragment(shown: Sequence[Hits], same: str = "patient_id") -> str:
    """Queries and hits as HTML to put into a notebook, a row each."""
    return render("notebook.html", rows=_rows(shown, same))


def _page(shown: Sequence[Hits], title: str, same: str) -> str:
    marked = any(_agree(entry.metadata, hit, same) for entry in shown for hit in entry)
    return render("gallery.html", title=title, rows=_rows(shown, same), same=same, marked=marked, note=_NOTE)


def _rows(shown: Sequence[Hits], same: str) -> list[list[tuple[str, str, str, list[str]]]]:
    """What ``figure.html`` draws: address, heading, class and lines of each picture."""
    rows = []
    for entry in shown:
        row = [_figure(entry.photo, "query", "query", [entry.name, *_words(entry.metadata)])]
        for hit in entry:
            kind = "same" if _agree(entry.metadata, hit, same) else ""
            lines = [Path(hit.path).name, *_reason(hit), *_words(hit.metadata)]
            row.append(_figure(hit.path, f"{hit.rank}. score {hit.score:.4f}", kind, lines))
        rows.append(row)
    return rows


def _figure(photo: Any, heading: str, kind: str, lines: list[str]) -> tuple[str, str, str, list[str]]:
    return picture_url(_thumbnail(photo)), heading, kind, lines


def _sheet(shown: Sequence[Hits], title: str, same: str) -> bytes:
    columns = 1 + max((len(entry) for entry in shown), default=0)
    texts = [_captions(entry) for entry in shown]
    heights = [_THUMB + _LINE * max(map(len, captions)) + 2 * _GAP for captions in texts]
    width = columns * (_THUMB + _GAP) + _GAP
    sheet = Image.new("RGB", (max(width, 420), 48 + sum(heights)), "white")
    draw, font = ImageDraw.Draw(sheet), _font()
    draw.text((_GAP, 10), title, fill=_INK, font=_font(16))
    draw.text(
        (_GAP, 30), f"Left the query, then what was found, nearest first. {_NOTE}", fill=_FAINT, font=font
    )
    top = 48
    for entry, captions, height in zip(shown, texts, heights, strict=True):
        for column, lines in enumerate(captions):
            hit = entry[column - 1] if column else None
            left, line = _GAP + column * (_THUMB + _GAP), top + _THUMB + _GAP
            image = _thumbnail(hit.path if hit else entry.photo)
            draw.rectangle((left, top + 6, left + _THUMB - 1, top + 5 + _THUMB), fill="black")
            sheet.paste(image, (left + (_THUMB - image.width) // 2, top + 6 + (_THUMB - image.height) // 2))
            if hit and _agree(entry.metadata, hit, same):
                draw.rectangle(
                    (left - 3, top + 3, left + _THUMB + 2, top + 8 + _THUMB), outline=_SAME, width=3
                )
            for number, text in enumerate(lines):
                draw.text((left, line + number * _LINE), text, fill=_FAINT if number else _INK, font=font)
        top += height
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _captions(entry: Hits) -> list[list[str]]:
    """Lines under each picture of a row."""
    texts = [["query", Path(entry.name).name, *_words(entry.metadata)]]
    texts += [
        [f"{hit.rank}. score {hit.score:.4f}", Path(hit.path).name, *_reason(hit), *_words(hit.metadata)]
        for hit in entry
    ]
    return [[line for text in lines for line in textwrap.wrap(text, 32) or [""]] for lines in texts]


def _font(size: int = 12) -> Any:
    return ImageFont.load_default(size)
