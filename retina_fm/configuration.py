"""One base of all settings: frozen, strict, unknown fields refused, and errors that name the field."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from retina_fm.errors import ConfigError, RetinaError, nearest

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


if TYPE_CHECKING:
    from typing_extensions import Self

AnyPath = Annotated[Path, Field(strict=False)]
"""A path, or its text."""


class Configuration(BaseModel):
    """Settings that are checked when they are made, whether by Python, from JSON or from TOML.

    ``model_dump(mode="json")`` gives plain values, ``model_validate`` reads them back, and ``model_copy``
    changes some. A number is no word and True no whole number; lists are taken for tuples where a field says
    so, since JSON has no tuples.

    Attributes:
        section: what the settings are called in messages, before a field's name; empty for the outermost.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)
    section: ClassVar[str] = ""

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise ConfigError(_spoken(type(self), error)) from None

    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]  # parts are checked with the whole

    @classmethod
    def model_validate(cls, obj: Any, **how: Any) -> Self:
        """Settings from plain values.

        Raises:
            ConfigError: a field is unknown, missing, or cannot have its value.
        """
        try:
            return super().model_validate(obj, **how)
        except ValidationError as error:
            raise ConfigError(_spoken(cls, error)) from None

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """The same settings with some changed, and checked again: pydantic's own takes changes unseen.

        Raises:
            ConfigError: a field is unknown, or cannot have its value.
        """
        return type(self)(**{**dict(self), **update}) if update else super().model_copy(deep=deep)


_KINDS = {
    "float_type": "a number",
    "finite_number": "a finite number",
    "int_type": "a whole number",
    "bool_type": "True or False",
    "string_type": "a word",
    "tuple_type": "a list",
    "path_type": "a path",
    "dict_type": "a table",
    "mapping_type": "a table",
    "model_type": "a table",
}
_BOUNDS = {
    "greater_than_equal": "a number >= {ge:g}",
    "greater_than": "a number > {gt:g}",
    "less_than_equal": "a number <= {le:g}",
    "too_short": "a list of {min_length} or more",
    "too_long": "a list of {max_length} or fewer",
    "literal_error": "{expected}",
}


def _spoken(model: type[Configuration], error: ValidationError) -> str:
    """What pydantic found, in the words of this project: the field, what came, what was expected."""
    found = error.errors(include_url=False)
    unknown = [one["loc"] for one in found if one["type"] == "extra_forbidden"]
    if unknown:
        parts = unknown[0][:-1]
        names = sorted(str(loc[-1]) for loc in unknown if loc[:-1] == parts)
        where = _dotted(model, parts) or "The configuration"
        hint = nearest(names[0], _fields_at(model, parts))
        return f"{where} has unknown fields {names}. {hint} A newer retina_fm may know others."
    lines = [_line(model, dict(one)) for one in found]
    return "; ".join(lines[:3]) + (f"; and {len(lines) - 3} more" if len(lines) > 3 else "")


def _line(model: type[Configuration], one: dict[str, Any]) -> str:
    kind, loc, context = one["type"], one["loc"], one.get("ctx", {})
    if kind == "missing" and not isinstance(loc[-1], int):
        owner = _dotted(model, loc[:-1]) or "The configuration"
        return f"{owner} lacks {loc[-1]!r}. Add it."
    if kind == "missing":
        return f"{_dotted(model, loc[:-1])} is {one['input']!r}; it is too short."
    if kind == "value_error":
        said = context["error"]
        if isinstance(said, RetinaError) or not loc:
            return str(said)
        return f"{_dotted(model, loc)} is {one['input']!r}; {said}"
    wanted = _KINDS.get(kind) or (_BOUNDS[kind].format(**context) if kind in _BOUNDS else "")
    what = f"it must be {wanted}." if wanted else f"{one['msg']}."
    return f"{_dotted(model, loc) or 'The configuration'} is {one['input']!r}; {what}"


def _dotted(model: type[Configuration], loc: tuple[int | str, ...]) -> str:
    parts = [part for part in (model.section, *map(str, loc)) if part]
    return ".".join(parts)


def _fields_at(model: type[Configuration], loc: tuple[int | str, ...]) -> list[str]:
    inner: Any = model
    for part in loc:  # a field of settings, or an entry of a table of settings
        inner = inner.model_fields[part].annotation if _is_settings(inner) else (None, *get_args(inner))[-1]
        if get_origin(inner) in (Union, UnionType):
            inner = next(filter(_is_settings, get_args(inner)), inner)
        if inner is None:
            return []
    return list(inner.model_fields) if _is_settings(inner) else []


def _is_settings(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Configuration)
