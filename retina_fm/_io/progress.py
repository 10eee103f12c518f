"""A progress bar where a person watches, silence elsewhere."""

from __future__ import annotations

import sys
from typing import Any

_FEW = 8


def progress_bar(
    progress: bool | None, total: int | None, note: str, *, unit: str = "photo", few: int = _FEW
) -> Any:
    """A tqdm bar on standard error.

    Args:
        progress: True or False decide; None shows it for more than ``few`` on a terminal.
        total: how many there are, or None where that is unknown.
        note: what is going on, shown before the bar.
        unit: one of them in a word.
        few: so many take no time worth a bar.
    """
    from tqdm import tqdm

    if progress is None:
        progress = sys.stderr.isatty() and (total is None or total > few)
    return tqdm(total=total, desc=note, unit=unit, disable=not progress, dynamic_ncols=True, smoothing=0.1)
