"""Who made a model, from what, and what one may do with it."""

from __future__ import annotations

from typing import ClassVar

from retina_fm.configuration import Configuration

RESEARCH_USE = "Research use. Not a medical device; not for decisions about patients."
_OPEN = ("Apache-2.0", "MIT", "BSD-3-Clause", "CC-BY-4.0", "CC0-1.0")


class ModelCard(Configuration):
    """Licence, origin and purpose of a model; part of a weights folder's ``config.json``.

    Attributes:
        licence: SPDX name where there is one.
        training_data: what the weights saw.
        intended_use: and what they are not for.
        pooling: the one named way in which maps or tokens become an embedding.
        citation: paper or repository to cite.
    """

    section: ClassVar[str] = "card"

    licence: str
    training_data: str
    intended_use: str = RESEARCH_USE
    pooling: str = "fitted"
    citation: str = ""

    @property
    def restricted(self) -> bool:
        """Whether the licence asks for more than attribution (no commercial use, for example)."""
        return self.licence not in _OPEN
