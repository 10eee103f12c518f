"""Who may ask: a secret from the environment or a file, compared in constant time; hosts without one."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import os
from pathlib import Path

from retina_fm.errors import ConfigError

VARIABLE = "RETINA_FM_TOKEN"
"""Of the environment; it holds the token where no file is named."""
_SHORTEST = 16
_LOCAL_NAMES = ("localhost", "127.0.0.1", "[::1]")


def read_token(file: str | Path | None = None) -> str | None:
    """The token of a file or of the environment; None where neither names one.

    Raises:
        ConfigError: the file cannot be read, or the token is shorter than 16 characters or has others than
            printable ASCII.
    """
    if file is not None:
        try:
            text = Path(file).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(
                f"--token-file {file} cannot be read ({error}). Name a text file that holds the token."
            ) from None
        where = str(file)
    else:
        text, where = os.environ.get(VARIABLE, "").strip(), VARIABLE
        if not text:
            return None
    if len(text) < _SHORTEST or not text.isascii() or not text.isprintable() or " " in text:
        raise ConfigError(
            f"The token in {where} has {len(text)} characters; at least {_SHORTEST} of printable ASCII "
            "without spaces are needed. 'openssl rand -hex 32' makes one."
        )
    return text


def is_right(token: str, header: str | None) -> bool:
    """Whether an ``Authorization`` header bears the token; takes as long for a nearly right one."""
    kind, _, given = (header or "").partition(" ")
    # digests are of one length, so that not even the token's length is told by the time
    one, other = (hashlib.sha256(text.encode()).digest() for text in (token, given.strip()))
    return hmac.compare_digest(one, other) and kind.lower() == "bearer"


def refuse_open_door(host: str, token: str | None) -> None:
    """Raises ConfigError where others than this machine's users could ask without a token."""
    if token is None and not is_loopback(host):
        raise ConfigError(
            f"--host {host} is reached from other machines, and no token is set. Set {VARIABLE} or name a "
            "--token-file, or leave --host out."
        )


def is_loopback(host: str) -> bool:
    """Whether a host is this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def is_local_name(header: str) -> bool:
    """Whether a ``Host`` header names this machine.

    Without a token it has to: a page elsewhere may send the browser here under a name of its own.
    """
    name = header.rsplit(":", 1)[0] if not header.endswith("]") else header
    return name.lower() in _LOCAL_NAMES
