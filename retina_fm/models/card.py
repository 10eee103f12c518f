"""Who made a model, from what, and what one may do with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields

from retina_fm.errors import ConfigError

RESEARCH_USE = "Research use. Not a medical device; not for decisions about patients."
_OPEN = ("Apache-2.0", "MIT", "BSD-3-Clause", "CC-BY-4.0", "CC0-1.0")


@dataclass(frozen=True)
class ModelCard:
    """Licence, origin and purpose of a model; part of a weights folder's ``config.json``.

    Attributes:
        licence: SPDX name where there is one.
        training_data: what the weights saw.
        intended_use: and what they are not for.
        pooling: the one named way in which maps or tokens become an embedding.
        citation: paper or repository to cite.
    """

    licence: str
    training_data: str
    intended_use: str = RESEARCH_USE
    pooling: str = "fitted"
    citation: str = ""

    @property
    def restricted(self) -> bool:
        """Whether the licence asks for more than attribution (no commercial use, for example)."""
        return self.licence not in _OPEN

    def as_dict(self) -> dict[str, str]:
        """Plain values for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, str]) -> ModelCard:
        """The inverse of :meth:`as_dict`.

        Raises:
            ConfigError: licence or training data are missing.
        """
        known = {field.name for field in fields(cls)}
        for needed in ("licence", "training_data"):
            if not isinstance(values.get(needed), str):
                raise ConfigError(f"The card lacks {needed!r}; every model says where it comes from.")
        return cls(**{key: str(value) for key, value in values.items() if key in known})
