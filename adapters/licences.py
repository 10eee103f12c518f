"""An adapter is no freer than the encoders it stands on."""

from __future__ import annotations

import re
from collections.abc import Sequence

from retina_fm.errors import ConfigError
from retina_fm.models.card import ModelCard


def joint_licence(cards: Sequence[ModelCard]) -> str:
    """The licence that an adapter over these encoders may state.

    One shared licence is itself; otherwise all restricted ones joined by ``AND``, or, where none is
    restricted, all of them.
    """
    names = list(dict.fromkeys(card.licence for card in cards))
    restricted = list(dict.fromkeys(card.licence for card in cards if card.restricted))
    return " AND ".join(restricted or names)


def checked_licence(wanted: str | None, cards: Sequence[ModelCard]) -> str:
    """The licence to write into an adapter.

    Args:
        wanted: by the user, or None for what follows from the encoders.
        cards: of the encoders.

    Raises:
        ConfigError: the one wanted claims more freedom than the encoders give.
    """
    joint = joint_licence(cards)
    if wanted is None or wanted == joint:
        return joint
    binding = [card for card in cards if card.restricted]
    parts = re.split(r"\s+AND\s+", wanted)  # SPDX; with OR, whoever takes it could choose the freer one
    unmet = [card.licence for card in binding if card.licence not in parts]
    if unmet:
        raise ConfigError(
            f"licence={wanted!r} claims more than the encoders allow: they bring {', '.join(unmet)}. "
            f"State {joint!r}, or leave licence out."
        )
    return wanted
