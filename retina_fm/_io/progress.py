"""A progress bar where a person watches, a line now and then where a log is kept, silence elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_FEW = 8
_SECONDS_BETWEEN_LINES = 30.0
_SECONDS_WITHOUT = 2.0
"""Work that takes less says nothing."""
_lines = False


@contextmanager
def lines_where_nobody_watches() -> Iterator[None]:
    """For commands: where standard error is no terminal, long work says a line now and then."""
    global _lines
    before, _lines = _lines, True
    try:
        yield
    finally:
        _lines = before


def progress_bar(
    progress: bool | None, total: int | None, note: str, *, unit: str = "photo", few: int = _FEW
) -> Any:
    """A tqdm bar on standard error, or lines there within :func:`lines_where_nobody_watches`.

    Args:
        progress: True or False decide; None shows it for more than ``few`` on a terminal.
        total: how many there are, or None where that is unknown.
        note: what is going on, shown before the bar.
        unit: one of them in a word.
        few: so many take no time worth a bar.
    """
    from tqdm import tqdm

    if progress is None:
        many = total is None or total > few
        if many and _lines and not sys.stderr.isatty():
            return _Lines(total, note, unit)
        progress = sys.stderr.isatty() and many
    return tqdm(total=total, desc=note, unit=unit, disable=not progress, dynamic_ncols=True, smoothing=0.1)


class _Lines:
    """What callers use of tqdm, in lines: after a moment, then every half minute, and at the end."""

    def __init__(self, total: int | None, note: str, unit: str) -> None:
        self.total, self.note, self.unit, self.n = total, note, unit, 0
        self.started = time.monotonic()
        self.next = self.started + _SECONDS_WITHOUT

    def __enter__(self) -> _Lines:
        return self

    def __exit__(self, *_: object) -> None:
        seconds = time.monotonic() - self.started
        if seconds >= _SECONDS_WITHOUT:
            self._say(f"{self.note}: {self._of(self.n)} in {seconds:.0f} s")

    def update(self, n: int = 1) -> None:
        """So many more are done."""
        self.n += n
        now = time.monotonic()
        if now < self.next:
            return
        self.next = now + _SECONDS_BETWEEN_LINES
        if self.total is None:
            self._say(f"{self.note}: {self._of(self.n)}, {now - self.started:.0f} s")
            return
        left = (now - self.started) / max(1, self.n) * (self.total - self.n)
        self._say(f"{self.note}: {self.n} of {self._of(self.total)}, about {left:.0f} s left")

    def _of(self, count: int) -> str:
        return f"{count} {self.unit}{'s' * (count != 1)}"

    @staticmethod
    def _say(text: str) -> None:
        print(text, file=sys.stderr, flush=True)
