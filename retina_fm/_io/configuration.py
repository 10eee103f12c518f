"""Configurations: strict models that refuse what they do not know, and say so as everything here does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from retina_fm.errors import ConfigError, nearest

Item = TypeVar("Item")
Listed = Annotated[tuple[Item, ...], Field(strict=False)]
"""A tuple that may be given as a list, as TOML and JSON do; its items are taken strictly."""


class Configuration(BaseModel):
    """A frozen set of values: types are not converted, unknown fields are refused."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _know_every_field(cls, values: Any) -> Any:
        for name in values if isinstance(values, Mapping) else ():
            if name not in cls.model_fields:
                raise ValueError(f"unknown field {name!r}. {nearest(str(name), cls.model_fields)}")
        return values


Kind = TypeVar("Kind", bound=BaseModel)


def configured(kind: type[Kind], values: Mapping[str, Any], what: str) -> Kind:
    """Values as a configuration.

    Args:
        kind: of configuration.
        values: by field.
        what: is configured, for the message: a file or a command.

    Raises:
        ConfigError: naming the field, what it holds and what it should.
    """
    try:
        return kind.model_validate(dict(values))
    except ValidationError as error:
        raise ConfigError(f"{what}: {'; '.join(_reasons(error))}") from None


def _reasons(error: ValidationError) -> list[str]:
    reasons = []
    for one in error.errors(include_url=False):
        place = ".".join(str(part) for part in one["loc"])
        said = one["msg"].removeprefix("Value error, ")
        if one["type"] not in ("value_error", "missing"):
            said = f"{one['input']!r} will not do. {said}"
        reasons.append(f"{place}: {said}" if place else said)
    return reasons
