"""Which of the pictures in one file is meant: pages of a TIFF, frames of an animation."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from PIL import Image

from retina_fm.errors import PictureError
from retina_fm.pictures.limits import MOST_PAGES

_KIND, _OLD_KIND = 254, 255  # TIFF's tags NewSubfileType and SubfileType
_FRAME = re.compile(r"#frame=(\d+)$")
_ANIMATED = frozenset({"GIF", "PNG", "WEBP", "AVIF"})


class _Page(NamedTuple):
    number: int
    width: int
    height: int


def opened_page(opened: Callable[[], Image.Image], frame: int | None, name: str) -> Image.Image:
    """The picture of a file that is meant, not yet decoded.

    A TIFF's reduced copies and masks are passed over, those that say so and those of at most half the size;
    where several pictures remain, and in animations, ``frame`` must say which.

    Args:
        opened: opens the file anew.
        frame: counted from 0, or None.
        name: what messages call it.

    Raises:
        PictureError: several pictures and no frame, or no such frame.
    """
    image = opened()
    if frame is None:
        if image.format == "TIFF":
            frame = _page_meant(opened(), name)
        elif image.format in _ANIMATED and (count := getattr(image, "n_frames", 1)) > 1:
            raise PictureError(several(name, count))
    if frame:
        try:
            if image.format == "TIFF" and frame >= MOST_PAGES:
                raise EOFError
            image.seek(frame)
        except EOFError:
            raise PictureError(f"{name}: it has no frame {frame}. Frames are counted from 0.") from None
    return image


def which_picture(photo: Any) -> str:
    """What a photo given as a dictionary says beside its file: which frame, which crop; empty without either.

    Two photos of one file are the same picture where this is the same.
    """
    if not isinstance(photo, Mapping):
        return ""
    said = ((name, photo.get(name)) for name in ("frame", "bounds"))
    return "".join(f"#{name}={value}" for name, value in said if value is not None)


def checked_frame(frame: Any, name: str) -> int | None:
    """A frame's number as it was given.

    Raises:
        PictureError: it is no whole number from 0.
    """
    if frame is not None and (isinstance(frame, bool) or not isinstance(frame, int) or frame < 0):
        raise PictureError(f"{name}: frame is {frame!r}; give a whole number, counted from 0.")
    return frame


def several(name: str, count: int, kind: str = "pictures") -> str:
    """What to say of a file that holds several pictures."""
    return (
        f"{name}: it holds {count} frames ({kind}), and nothing says which is meant. Pass one as "
        "{'path': FILE, 'frame': 0}, counted from 0."
    )


def photo_of(name: str) -> Any:
    """A photo by the name that tables give it: a path, after ``#frame=`` the frame of a file with several."""
    frame = _FRAME.search(name)
    return {"path": name[: frame.start()], "frame": int(frame[1])} if frame else name


def frame_of(name: str) -> tuple[str, int]:
    """File and frame of a photo by the name that tables give it; -1 of a file that holds one."""
    frame = _FRAME.search(name)
    return (name[: frame.start()], int(frame[1])) if frame else (name, -1)


def _page_meant(image: Any, name: str) -> int:
    pages = [page for page in _pages(image, name) if page is not None]
    if len(pages) < 2:
        return pages[0].number if pages else 0
    largest = max(pages, key=lambda page: page.width * page.height)
    copies = [page for page in pages if 2 * page.width <= largest.width and 2 * page.height <= largest.height]
    if len(copies) < len(pages) - 1:
        raise PictureError(several(name, len(pages), "pages of a TIFF"))
    return largest.number


def _pages(image: Any, name: str) -> list[_Page | None]:
    """Each page, or None for one that says that it is a copy or a mask."""
    pages: list[_Page | None] = []
    for number in range(MOST_PAGES + 1):
        try:
            image.seek(number)
        except Exception:  # the end, or what follows the last page is damaged
            return pages
        kind, old = image.tag_v2.get(_KIND, 0), image.tag_v2.get(_OLD_KIND, 1)
        lesser = bool(isinstance(kind, int) and kind & 0b101) or old == 2
        pages.append(None if lesser else _Page(number, *image.size))
    raise PictureError(f"{name}: a TIFF of more than {MOST_PAGES} pages. Save the one that is meant.")
