"""Conditions on metadata as parameterised SQL: which places may be found."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retina_fm.errors import ConfigError, nearest
from retina_fm.indexes.database import quoted
from retina_fm.indexes.metadata import column_of
from retina_fm.indexes.state import State

# Both take a run of spaces in one way only, so that the time grows with the length and not with its square.
_CONDITION = re.compile(
    r"\s*(\"(?:[^\"]|\"\")+\"|[^=!<>()\"'\s]+(?:\s+[^=!<>()\"'\s]+)*?)\s*(==|!=|<=|>=|=|<|>|\bcontains\b)",
    re.I,
)
_VALUE = re.compile(
    r"\s*'((?:[^']|'')*)'|\s*\"((?:[^\"]|\"\")*)\"|((?:[^()\s]+|\s+(?!\s|(?:and|or)\b))*)", re.I
)
_NUMBERS = ("INTEGER", "REAL")
_READING = {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION}


@dataclass(frozen=True, init=False)
class Sql:
    """A condition in SQL over metadata columns by their names.

    The expression is code and must be your own; values that come from elsewhere go into ``parameters``, one
    for each ``?``. Whatever it says can only read: the database that it runs on is a copy in memory.

    Example: ``index.search(photo, where=Sql('age BETWEEN ? AND ?', 50, 60))``.
    """

    expression: str
    parameters: tuple[Any, ...]

    def __init__(self, expression: str, *parameters: Any) -> None:
        object.__setattr__(self, "expression", expression)
        object.__setattr__(self, "parameters", parameters)


Where = str | Sql | Iterable[str | Sql] | Mapping[str, Any]


def places_where(state: State, where: Where) -> NDArray[np.bool_]:
    """Which places meet all conditions.

    Args:
        state: of the index.
        where: ``"eye=left"``, ``"age>=60 and label contains 'D'"`` (``=``, ``!=``, ``<``, ``<=``, ``>``,
            ``>=``, ``contains`` for a label among several joined by a bar; ``and``, ``or``, ``not``,
            parentheses; names with odd characters in double quotes, values in single ones), several in a
            list, an :class:`Sql`, or a mapping of column to value, to a collection of values, or to a
            function of one value; ``{"age >=": 60}`` too. Values are compared as numbers where both sides
            are numbers, else as text (so ISO dates work). A picture without a value meets no condition
            but ``column=`` (nothing there) and functions.

    Raises:
        ConfigError: a column that is not there, or a condition that cannot be read.
    """
    build = _Builder(state)
    terms, functions = build.terms(where)
    mask = np.zeros(state.total, np.bool_)
    sql = f"SELECT _place FROM picture WHERE {' AND '.join([*terms, '1'])}"
    mask[[place for (place,) in _guarded(state, sql, build)]] = True
    for column, wanted in functions:
        places = np.flatnonzero(mask)
        values = ([state.usable(path) for path in state.stored_paths()] if column == "path"
                  else column_of(state, column))  # fmt: skip
        values = [values[i] for i in np.searchsorted(state.live_positions, places)]
        mask[places] = [bool(wanted(value)) for value in values]
    return mask


def _guarded(state: State, sql: str, build: _Builder) -> list[tuple[Any, ...]]:
    """Run a statement; one that holds an expression of the caller's may read and nothing else."""

    def authorise(action: int, *_: Any) -> int:
        return sqlite3.SQLITE_OK if action in _READING or not build.foreign else sqlite3.SQLITE_DENY

    with state.lock:
        state.db.create_function("number", 1, _number, deterministic=True)
        state.db.create_function("usable", 1, lambda path: state.usable(str(path)))
        state.query(
            "SELECT 1 FROM json_each('[]')"
        )  # so that it is known before nothing can be made any more
        state.db.set_authorizer(authorise)
        try:
            return state.query(sql, build.parameters)
        except (sqlite3.Error, sqlite3.Warning, ValueError, OverflowError) as error:
            raise ConfigError(
                f"The condition cannot be read ({error}). Known columns: {', '.join(build.kinds) or 'none'}."
            ) from None
        finally:
            state.db.set_authorizer(lambda *_: sqlite3.SQLITE_OK)


class _Builder:
    """SQL terms, and the parameters that belong to their question marks."""

    def __init__(self, state: State) -> None:
        self.kinds = state.kinds
        self.parameters: list[Any] = []
        self.foreign = False

    def terms(self, where: Where) -> tuple[list[str], list[tuple[str, Callable[[Any], Any]]]]:
        if isinstance(where, str | Sql):
            return [self._one(where)], []
        if not isinstance(where, Mapping):
            return [self._one(item) for item in where], []
        terms, functions = [], []
        for key, wanted in where.items():
            column, sign = self._key(str(key))
            if callable(wanted):
                functions.append((column, wanted))
            elif isinstance(wanted, Iterable) and not isinstance(wanted, str | bytes):
                terms.append(self._among(column, list(wanted)))
            else:
                terms.append(self._compared(column, sign, "" if wanted is None else wanted))
        return terms, functions

    def _key(self, key: str) -> tuple[str, str]:
        found = None if key in self.kinds else _CONDITION.fullmatch(key)
        column, sign = (found.group(1), found.group(2)) if found else (key, "=")
        return self._known(column), sign

    def _one(self, item: Any) -> str:
        if isinstance(item, Sql):
            self.foreign = True
            self.parameters += item.parameters
            return f"({item.expression}\n)"
        if not isinstance(item, str):
            raise ConfigError(f"The condition {item!r} cannot be read; write column=value or column>=9.")
        try:
            term, end = self._any(item, 0)
        except RecursionError:
            raise self._unreadable(item) from None
        if item[end:].strip():
            raise self._unreadable(item)
        return term

    def _any(self, text: str, at: int) -> tuple[str, int]:
        return self._joined(text, at, "or", lambda t, a: self._joined(t, a, "and", self._simple))

    def _joined(
        self, text: str, at: int, word: str, part: Callable[[str, int], tuple[str, int]]
    ) -> tuple[str, int]:
        term, at = part(text, at)
        terms = [term]
        while found := re.compile(rf"\s*\b{word}\b", re.I).match(text, at):
            term, at = part(text, found.end())
            terms.append(term)
        return (term if len(terms) == 1 else f"({f' {word.upper()} '.join(terms)})"), at

    def _simple(self, text: str, at: int) -> tuple[str, int]:
        if found := re.compile(r"\s*not\b(?=\s*\(|\s)", re.I).match(text, at):
            term, at = self._simple(text, found.end())
            return f"NOT coalesce({term}, 0)", at
        if found := re.compile(r"\s*\(").match(text, at):
            term, at = self._any(text, found.end())
            closing = re.compile(r"\s*\)").match(text, at)
            if not closing:
                raise self._unreadable(text)
            return term, closing.end()
        found = _CONDITION.match(text, at)
        if not found:
            raise self._unreadable(text)
        column, sign = found.groups()
        value = _VALUE.match(text, found.end())
        assert value is not None
        single, double, bare = value.groups()
        wanted = bare.strip() if bare is not None else (
            double.replace('""', '"') if single is None else single.replace("''", "'")
        )  # fmt: skip
        return self._compared(self._known(column), sign.lower(), wanted), value.end()

    @staticmethod
    def _unreadable(text: str) -> ConfigError:
        return ConfigError(
            f"The condition {text!r:.200} cannot be read; write column=value, column>=9 or label contains "
            "'D', joined by and, or."
        )

    def _known(self, column: str) -> str:
        if column.startswith('"') and column.endswith('"') and len(column) > 1:
            column = column[1:-1].replace('""', '"')
        if column != "path" and column not in self.kinds:
            raise ConfigError(
                f"There is no metadata column {column!r}. {nearest(column, [*self.kinds, 'path'])}"
            )
        return column

    def _among(self, column: str, values: list[Any]) -> str:
        numbers = self.kinds.get(column) in _NUMBERS
        wanted = [value for value in (_number(str(v)) if numbers else str(v) for v in values if v is not None)
                  if value not in (None, "")]  # fmt: skip
        nothing = [self._compared(column, "=", "")] if any(v is None or v == "" for v in values) else []
        if self.kinds.get(column) == "BOOLEAN":
            return "(" + " OR ".join([self._compared(column, "=", v) for v in values] or ["0"]) + ")"
        self.parameters.append(json.dumps(wanted))
        return (
            "(" + " OR ".join([*nothing, f"{self._name(column)} IN (SELECT value FROM json_each(?))"]) + ")"
        )

    def _name(self, column: str) -> str:
        return "usable(_path)" if column == "path" else quoted(column)

    def _compared(self, column: str, sign: str, value: Any) -> str:
        name, kind, text = self._name(column), self.kinds.get(column, "TEXT"), str(value)
        if sign == "contains":
            self.parameters.append(f"|{text}|")
            return f"instr('|' || {name} || '|', ?) > 0"
        sign = "=" if sign == "==" else sign
        if text == "" and sign in ("=", "!="):
            return f"coalesce({name}, '') {sign} ''"
        if kind == "BOOLEAN" and text.lower() in _TRUTH:
            self.parameters.append(_TRUTH[text.lower()])
            return f"{name} {sign} ?"
        number = _number(text)
        if kind in _NUMBERS:
            self.parameters.append(text if number is None else number)
            return f"{name} {sign} ?" if number is not None else f"CAST({name} AS TEXT) {sign} ?"
        # "007" is a name, not the number 7: equality is of numbers only in columns of numbers
        if number is not None and sign not in ("=", "!="):
            self.parameters.append(number)
            return f"number({name}) {sign} ?"
        self.parameters.append(text)
        return f"{name} {sign} ?"


_TRUTH = {"true": 1, "false": 0, "1": 1, "0": 0}


def _number(text: Any) -> float | int | None:
    try:
        value = float(text)
        return int(text) if value.is_integer() and str(text).strip().lstrip("+-").isdigit() else value
    except (TypeError, ValueError, OverflowError):
        return None
