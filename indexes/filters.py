"""Conditions on metadata, turned into the set of rows that may be found."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from retina_fm.errors import ConfigError, nearest

Where = str | Iterable[str] | Mapping[str, Any]
_CONDITION = re.compile(r"\s*([^=!<>]+?)\s*(==|!=|<=|>=|=|<|>)\s*(.*?)\s*\Z", re.DOTALL)
_COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    "=": operator.eq,
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def rows_where(table: pa.Table, where: Where) -> NDArray[np.bool_]:
    """Which rows of a table meet all conditions.

    Args:
        table: one row a picture.
        where: ``"eye=left"``, ``"age>=60"`` (also ``!=``, ``<``, ``<=``, ``>``), several in a list, or
            a mapping of column to value, to a collection of values, or to a function of one value. Values
            are compared as numbers where both sides are numbers, else as text (so ISO dates work). A row
            without a value meets no condition but ``column=`` (nothing there) and functions.

    Raises:
        ConfigError: a column that is not there, or a condition that cannot be read.
    """
    mask = np.ones(table.num_rows, np.bool_)
    if isinstance(where, Mapping):
        for column, wanted in where.items():
            mask &= _matches(_column(table, str(column)), wanted)
        return mask
    for text in [where] if isinstance(where, str) else where:
        found = _CONDITION.match(text) if isinstance(text, str) else None
        if found is None:
            raise ConfigError(f"The condition {text!r} cannot be read; write column=value or column>=9.")
        column, sign, value = found.groups()
        mask &= _compared(_column(table, column), sign, value)
    return mask


def _column(table: pa.Table, name: str) -> pa.ChunkedArray:
    if name not in table.column_names:
        raise ConfigError(f"There is no metadata column {name!r}. {nearest(name, table.column_names)}")
    return table.column(name)


def _matches(column: pa.ChunkedArray, wanted: Any) -> NDArray[np.bool_]:
    if callable(wanted):
        return np.array([bool(wanted(value)) for value in column.to_pylist()], np.bool_)
    if isinstance(wanted, Iterable) and not isinstance(wanted, str | bytes):
        mask = np.zeros(len(column), np.bool_)
        for value in wanted:
            mask |= _compared(column, "=", value)
        return mask
    return _compared(column, "=", wanted)


def _compared(column: pa.ChunkedArray, sign: str, value: Any) -> NDArray[np.bool_]:
    known = column.is_valid().to_numpy()
    text = "" if value is None else str(value)
    if text == "" and sign in ("=", "==", "!="):
        some = _both(known, _texts(column) != "")
        return some if sign == "!=" else ~some
    number = _number(text)
    if number is not None:
        numbers = _numbers(column)
        numeric = ~np.isnan(numbers)
        # "007" is a name, not the number 7: equality is of numbers only in columns of numbers
        if sign not in ("=", "==", "!=") or not pa.types.is_string(column.type):
            return _both(known & numeric, _COMPARE[sign](numbers, number))
    return _both(known, _COMPARE[sign](_texts(column), text))


def _both(one: Any, other: Any) -> NDArray[np.bool_]:
    both: NDArray[np.bool_] = np.logical_and(one, np.asarray(other, np.bool_))
    return both


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _texts(column: pa.ChunkedArray) -> NDArray[Any]:
    if not pa.types.is_string(column.type):
        column = pc.cast(column, pa.string())
    return np.array(column.fill_null("").to_pylist(), dtype=object).astype(str)


def _numbers(column: pa.ChunkedArray) -> NDArray[np.float64]:
    if pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
        return np.asarray(pc.cast(column, pa.float64()).fill_null(float("nan")).to_numpy(), np.float64)
    found = [_number(str(value)) if value is not None else None for value in column.to_pylist()]
    return np.array([np.nan if value is None else value for value in found], np.float64)
