"""The card of an adapter: its licence, the encoders that it needs, what it is for."""

from __future__ import annotations

from typing import Any

from retina_fm.models.folder import CARD
from retina_fm.models.sharing import front_matter

__all__ = ["CARD", "card_of"]

_TASKS = {
    "classification": "image-classification",
    "segmentation": "image-segmentation",
    "regression": "image-feature-extraction",
}
"""As the hub calls them; it has no word for measurements."""


def card_of(manifest: dict[str, Any]) -> str:
    """A model card: licence, encoders with theirs, purpose."""
    encoders = "\n".join(
        f"- `{one['name']}`, licence {one['card']['licence']}, weights `{one['weights_sha256'][:16]}`"
        for one in manifest["encoders"]
    )
    return (
        f"{front_matter(manifest['licence'], _TASKS[manifest['task']])}"
        f"# {manifest['task'].capitalize()} adapter\n\n"
        f"Licence: {manifest['licence']}. It needs these encoders, which are not part of it and keep "
        "their own licences:\n\n"
        f"{encoders}\n\n{manifest['intended_use']}\n"
    )
