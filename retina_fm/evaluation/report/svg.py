"""Plots as SVG text: bars with intervals, boxes, curves; no library, and the same bytes every time."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#8c8c8c", "#5e3c99", "#b59a00")
"""Okabe and Ito's, which people with any colour vision tell apart, and three more."""
_LETTER = 6.0
"""Pixels of a letter, on average."""
_FONT = "font-family='system-ui,sans-serif' font-size='11' fill='#333'"


class Bar(NamedTuple):
    """A value with its interval, of a series."""

    series: str
    value: float
    low: float | None
    high: float | None


class Axes:
    """Axes with a linear vertical scale, and the shapes drawn into them."""

    def __init__(
        self, title: str, width: int, height: int, low: float, high: float, *, label: str = ""
    ) -> None:
        self.width, self.height, self.low, self.high = width, height, low, high
        self.left, self.right, self.top, self.bottom = 46, 12, 64, 40
        self.shapes: list[str] = []
        self.text(8, 16, title, weight="600", size=13)
        if label:
            self.text(8, self.top - 10, label, colour="#666")
        for tick in _ticks(low, high):
            y = self.y(tick)
            grey = "#999" if tick == low else "#e4e4e4"
            self.line(self.left, y, width - self.right, y, grey)
            self.text(self.left - 6, y + 4, f"{tick:g}", anchor="end", colour="#666")

    def y(self, value: float) -> float:
        """Pixel row of a value."""
        span = (self.height - self.top - self.bottom) / (self.high - self.low)
        return self.height - self.bottom - (min(max(value, self.low), self.high) - self.low) * span

    def line(self, x1: float, y1: float, x2: float, y2: float, colour: str, width: float = 1) -> None:
        """A straight line."""
        self.shapes.append(
            f"<line x1='{x1:.1f}' y1='{y1:.1f}' x2='{x2:.1f}' y2='{y2:.1f}' stroke='{colour}' "
            f"stroke-width='{width}'/>"
        )

    def box(self, x: float, y: float, width: float, height: float, colour: str, opacity: float = 1) -> None:
        """A filled rectangle."""
        self.shapes.append(
            f"<rect x='{x:.1f}' y='{y:.1f}' width='{width:.1f}' height='{max(height, 0.5):.1f}' rx='1.5' "
            f"fill='{colour}' fill-opacity='{opacity}'/>"
        )

    def text(
        self, x: float, y: float, words: str, *, anchor: str = "start", colour: str = "#333",
        weight: str = "400", size: int = 11,
    ) -> None:  # fmt: skip
        """Words, ``y`` at their baseline."""
        self.shapes.append(
            f"<text x='{x:.1f}' y='{y:.1f}' text-anchor='{anchor}' fill='{colour}' font-weight='{weight}' "
            f"font-size='{size}'>{html.escape(words)}</text>"
        )

    def legend(self, names: Sequence[str]) -> None:
        """The series' names with their colours, in one line below the title."""
        x = 8.0
        for number, name in enumerate(names):
            self.box(x, 25, 10, 10, COLOURS[number % len(COLOURS)])
            self.text(x + 14, 34, name)
            x += _legend_entry(name)

    def svg(self) -> str:
        """The whole picture."""
        return (
            f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {self.width} {self.height}' "
            f"width='{self.width}' height='{self.height}' {_FONT}>"
            f"<rect width='100%' height='100%' fill='white'/>{''.join(self.shapes)}</svg>"
        )


def legend_width(names: Sequence[str]) -> int:
    """Pixels that a plot needs to be wide for its legend to fit."""
    return round(16 + sum(map(_legend_entry, names)))


def _legend_entry(name: str) -> float:
    return 28 + 6.2 * len(name)


def bars(
    title: str, groups: Sequence[tuple[str, Sequence[Bar]]], *, low: float, high: float, label: str,
    reference: float | None = None,
) -> str:  # fmt: skip
    """Groups of bars with whiskers; ``reference`` is a dashed line, for example chance."""
    names = list(dict.fromkeys(bar.series for _, group in groups for bar in group))
    step = max(14, min(34, 720 // max(1, len(groups) * (len(names) + 1))))
    longest = max((len(line) for name, _ in groups for line in name.split("\n")), default=0)
    room = max(92, step * (len(names) + 1), min(124, round(_LETTER * longest) + 8))
    axes = Axes(title, max(420, 70 + room * len(groups), legend_width(names)), 300, low, high, label=label)
    axes.legend(names)
    for place, (name, group) in enumerate(groups):
        start = axes.left + place * room + (room - step * len(names)) / 2
        for bar in group:
            if math.isnan(bar.value):
                continue
            number = names.index(bar.series)
            x, y = start + number * step, axes.y(bar.value)
            axes.box(x, y, step - 3, axes.y(low) - y, COLOURS[number % len(COLOURS)])
            if bar.low is not None and bar.high is not None:
                middle = x + (step - 3) / 2
                axes.line(middle, axes.y(bar.low), middle, axes.y(bar.high), "#222", 1.3)
        for line, words in enumerate(name.split("\n")):
            middle = axes.left + (place + 0.5) * room
            axes.text(middle, axes.height - 24 + 13 * line, _short(words, room), anchor="middle")
    if reference is not None:
        _dashed(axes, reference)
    return axes.svg()


def boxes(
    title: str, groups: Sequence[tuple[str, Sequence[tuple[str, Sequence[float]]]]], *, low: float,
    high: float, label: str, reference: float | None = None,
) -> str:  # fmt: skip
    """Box plots as in the paper: quartiles, whiskers to the last point within 1.5 ranges; every point."""
    names = list(dict.fromkeys(name for _, group in groups for name, _ in group))
    step = max(14, min(30, 720 // max(1, len(groups) * (len(names) + 1))))
    room = step * (len(names) + 1)
    axes = Axes(title, max(420, 70 + room * len(groups), legend_width(names)), 300, low, high, label=label)
    axes.legend(names)
    for place, (name, group) in enumerate(groups):
        start = axes.left + place * room + step / 2
        for series, values in group:
            numbers = np.array([v for v in values if v is not None and not math.isnan(v)])
            if not numbers.size:
                continue
            number = names.index(series)
            _one_box(axes, start + number * step, step - 4, numbers, COLOURS[number % len(COLOURS)])
        axes.text(start + room / 2 - step, axes.height - 26, _short(name, room), anchor="middle")
    if reference is not None:
        _dashed(axes, reference)
    return axes.svg()


def curves(
    title: str, series: Sequence[tuple[str, Sequence[float], Sequence[float]]], *, across: str, up: str,
    diagonal: bool = False,
) -> str:  # fmt: skip
    """Lines over [0, 1] x [0, 1], as ROC and precision-recall curves are."""
    names = [name for name, _, _ in series]
    axes = Axes(title, max(380, legend_width(names)), 380, 0, 1, label=up)
    axes.legend(names)
    span = axes.width - axes.left - axes.right
    for tick in (0, 0.25, 0.5, 0.75, 1):
        axes.text(axes.left + tick * span, axes.height - 28, f"{tick:g}", anchor="middle", colour="#666")
    axes.text(axes.left + span / 2, axes.height - 10, across, anchor="middle", colour="#666")
    if diagonal:
        axes.line(axes.left, axes.y(0), axes.left + span, axes.y(1), "#bbb")
    for number, (_, xs, ys) in enumerate(series):
        points = " ".join(f"{axes.left + x * span:.1f},{axes.y(y):.1f}" for x, y in zip(xs, ys, strict=True))
        colour = COLOURS[number % len(COLOURS)]
        axes.shapes.append(f"<polyline points='{points}' fill='none' stroke='{colour}' stroke-width='1.8'/>")
    return axes.svg()


def _one_box(axes: Axes, x: float, width: float, numbers: np.ndarray, colour: str) -> None:
    first, middle, third = np.quantile(numbers, (0.25, 0.5, 0.75))
    reach = 1.5 * (third - first)
    ends = numbers[(numbers >= first - reach) & (numbers <= third + reach)]
    centre = x + width / 2
    axes.line(centre, axes.y(ends.min()), centre, axes.y(ends.max()), colour, 1.3)
    axes.box(x, axes.y(third), width, axes.y(first) - axes.y(third), colour, 0.35)
    axes.line(x, axes.y(middle), x + width, axes.y(middle), colour, 2)
    for value in numbers:
        axes.shapes.append(f"<circle cx='{centre:.1f}' cy='{axes.y(value):.1f}' r='1.8' fill='{colour}'/>")


def _dashed(axes: Axes, value: float) -> None:
    y = axes.y(value)
    axes.shapes.append(
        f"<line x1='{axes.left}' y1='{y:.1f}' x2='{axes.width - axes.right}' y2='{y:.1f}' stroke='#555' "
        "stroke-dasharray='4 3'/>"
    )


def _ticks(low: float, high: float) -> list[float]:
    step = 10 ** math.floor(math.log10((high - low) / 2))
    step = next(s for s in (step, 2 * step, 5 * step, 10 * step) if (high - low) / s <= 6)
    return [round(low + k * step, 10) for k in range(int((high - low) / step + 1e-9) + 1)]


def _short(name: str, room: float) -> str:
    most = max(5, int((room - 4) / _LETTER))
    return name if len(name) <= most else name[: most - 1] + "…"
