"""Heat maps of many photos in a folder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from retina_fm._io.folders import own_folder
from retina_fm._io.progress import progress_bar
from retina_fm.errors import OutputError
from retina_fm.explaining.explanation import explain
from retina_fm.pictures.bounds import file_name_of


def write_heat_maps(
    estimator: Any,
    photos: Sequence[Any],
    out: Path,
    method: Literal["occlusion", "gradients"] = "occlusion",
    *,
    progress: bool | None = None,
) -> list[Path]:
    """A heat map a photo: ``NAME.png`` over the photo, ``NAME.npy`` as numbers.

    The name is the photo's ``id`` where its dict has one, else its file's, with its frame (``c_1``).

    Args:
        estimator: a fitted classifier or regressor.
        photos: many photos.
        out: folder.
        method: see :func:`retina_fm.explain`.
        progress: a bar; None shows it on a terminal.

    Raises:
        OutputError: two photos of the same name, or a folder that cannot be written or holds something else.
    """
    names = [file_name_of(photo) for photo in photos]
    twice = sorted(name for name, count in Counter(names).items() if count > 1)
    if twice:
        raise OutputError(f"Photos share a name ({', '.join(twice[:3])}); explain their folders one by one.")
    own_folder(out, "a folder of heat maps")
    written = []
    with progress_bar(progress, len(photos), "explain", few=1) as bar:
        for photo, name in zip(photos, names, strict=True):
            heat = explain(estimator, photo, method, progress=progress if len(photos) == 1 else False)
            written.append(heat.save(out / f"{name}.png"))
            bar.update()
    return written
