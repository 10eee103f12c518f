"""Pages for people to look at: self-contained HTML from the templates beside this module, one stylesheet."""

from __future__ import annotations

import base64
import io
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image

from retina_fm._io.names import as_text


def render(template: str, **values: Any) -> str:
    """A page.

    Args:
        template: a file in ``templates``.
        values: that it asks for; text is escaped, ``Markup`` is taken as it is.

    Raises:
        jinja2.UndefinedError: a value that the template asks for is missing.
    """
    return as_text(_environment().get_template(template).render(**values))


def picture_url(image: Image.Image, side: int | None = None, quality: int = 88) -> str:
    """A picture as JPEG inside an address, shrunk to ``side`` pixels where it is larger."""
    small = image.copy()
    if side is not None:
        small.thumbnail((side, side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=quality)
    return data_url(buffer.getvalue(), "jpeg")


def file_url(path: Path) -> str:
    """A file with a picture inside an address."""
    return data_url(path.read_bytes(), "png" if path.suffix == ".png" else "jpeg")


def data_url(data: bytes, form: str) -> str:
    """Bytes of a picture inside an address."""
    return f"data:image/{form};base64,{base64.b64encode(data).decode()}"


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("retina_fm._io"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
