"""Photographs and frames of the same eye laid on each other, to see by eye what retrieval is asked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from retina_fm._io.files import write_bytes
from retina_fm.errors import MissingDependencyError
from retina_fm.evaluation.manifest import Row
from retina_fm.evaluation.names import file_name
from retina_fm.evaluation.protocols.retrieval_questions import questions_of
from retina_fm.pictures import read_picture

MOST = 24
"""Pairs that are laid on each other: a report needs some, not thousands."""


def frame_overlays(rows: Sequence[Row], folder: Path, task: str) -> list[dict[str, str]]:
    """Draw a checkerboard of each photograph and the frames of its eye, registered by their vessels.

    Args:
        rows: of a task.
        folder: of the evaluation; files go into ``overlays`` below it.
        task: its name.

    Returns:
        What was drawn, as a report shows it: ``picture`` in words with the registration's quality, ``file``.
        Nothing where no photograph has a frame, or SimpleITK (extra ``train``) is not installed.
    """
    from retina_fm.training.pairs.register_archive import checkerboard
    from retina_fm.training.pairs.registration import need_simpleitk, register_frame
    from retina_fm.training.pairs.table import Frame

    questions = [question for question in questions_of(rows) if "photo to frame" in question.name]
    pairs = [
        (int(row), int(other))
        for question in questions
        for row in question.asked
        for other in np.flatnonzero(question.right(np.array([row]))[0])
    ]
    if not pairs:
        return []
    try:
        need_simpleitk()
    except MissingDependencyError:
        return []
    drawn = []
    for one, other in pairs[:MOST]:
        photo, frame = rows[one], rows[other]
        grey = read_picture(frame.path).mean(2).astype(np.uint8)
        found = register_frame(read_picture(photo.path), grey)
        name = f"overlays/{'-'.join(map(file_name, (task, photo.name, frame.name)))}.jpg"
        laid = Frame(frame.path, frame.columns.get("phase", ""), transform=found.transform)
        write_bytes(folder / name, checkerboard(photo.path, laid))
        words = f"{photo.name} with {frame.name}, lines correlate by {found.quality:.2f}"
        drawn.append({"picture": words if found.accepted else f"{words}: not found", "file": name})
    return drawn
