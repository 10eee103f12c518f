"""TOML, whatever the Python."""

from __future__ import annotations

import sys
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:  # Python 3.10 has no reader of its own
    import tomli as tomllib


def parse_toml(text: str) -> dict[str, Any]:
    """Tables and values of a TOML file.

    Raises:
        ValueError: it is no TOML; the message says in which line.
    """
    return tomllib.loads(text)
