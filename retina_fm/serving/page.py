"""The page to drop a photo on: one HTML file whose only connections are to this server."""

from __future__ import annotations

import base64
import hashlib
import re

from retina_fm._io.pages import render

_STYLE = re.compile(r"<style>(.*?)</style>", re.DOTALL)
_SCRIPT = re.compile(r"<script>(.*?)</script>", re.DOTALL)


def page(model: str, needs_token: bool) -> str:
    """The page as HTML.

    Args:
        model: its name.
        needs_token: whether to ask for one; the page keeps it until it is closed.
    """
    return render("serve.html", title="A photo, looked at", model=model, needs_token=needs_token)


def policy(html: str) -> str:
    """The Content-Security-Policy of a page: its own style and script by their hashes, and nothing else."""
    return "; ".join(
        (
            "default-src 'none'",
            f"style-src {_hashes(_STYLE, html)}",
            f"script-src {_hashes(_SCRIPT, html)}",
            "img-src data: blob:",
            "connect-src 'self'",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        )
    )


def _hashes(element: re.Pattern[str], html: str) -> str:
    digests = (hashlib.sha256(text.encode()).digest() for text in element.findall(html))
    return " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)
