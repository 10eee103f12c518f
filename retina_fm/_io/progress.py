"""A progress bar where a person watches, silence elsewhere."""

from __future__ import annotations

import sys
from typing import Any

_MANY = 8


def progress_bar(progress: bool | None, total: int | None, note: str) -> Any:
    """A tqdm bar on standard error.

    Args:
        progress: True or False decide; None shows it for more than a few photos on a terminal.
        total: of photos, or None where it is unknown.
        note: what is going on, shown before the bar.
    """
    from tqdm import tqdm

    if progress is None:
        progress = sys.stderr.isatty() and (total is None or total > _MANY)
    return tqdm(total=total, desc=note, unit="photo", disable=not progress, dynamic_ncols=True, smoothing=0.1)
