"""Objects in a sentence for a terminal, and as a small table for a notebook."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from typing import Any

_CELL = "text-align:left;padding:2px 12px 2px 0;vertical-align:top"
_LONGEST = 300


def in_a_line(kind: str, facts: Iterable[tuple[str, Any]]) -> str:
    """``Kind(fact=value, ...)``; what is None or empty is left out."""
    shown = ", ".join(f"{name}={value}" for name, value in facts if value not in (None, ""))
    return f"{kind}({shown})"


def fact_table(title: str, facts: Iterable[tuple[str, Any]], picture: str = "") -> str:
    """A title over names and values, each escaped, and a picture given as a data URL."""
    rows = "".join(
        f'<tr><th style="{_CELL};font-weight:normal;opacity:.7">{escape(name)}</th>'
        f'<td style="{_CELL}">{escape(_short(value))}</td></tr>'
        for name, value in facts
        if value not in (None, "")
    )
    image = f'<img src="{picture}" alt="" style="max-width:100%">' if picture else ""
    return f"<div><b>{escape(title)}</b>{image}<table>{rows}</table></div>"


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
