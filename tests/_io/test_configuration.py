"""Configurations: strict, closed, and refused in words that name the field."""

from __future__ import annotations

import pytest
from pydantic import Field

from retina_fm._io.configuration import Configuration, Listed, configured
from retina_fm.errors import ConfigError


class Inner(Configuration):
    depth: int = 1


class Outer(Configuration):
    name: str
    rate: float = 0.5
    seeds: Listed[int] = (0,)
    inner: dict[str, Inner] = Field(default_factory=dict)


def test_lists_become_tuples_and_nothing_else_is_converted() -> None:
    made = configured(Outer, {"name": "a", "seeds": [1, 2], "rate": 1, "inner": {"x": {"depth": 2}}}, "here")
    assert made.seeds == (1, 2)
    assert made.inner["x"].depth == 2
    assert made.model_dump(mode="json")["seeds"] == [1, 2]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"name": "a", "rates": 1}, r"^here: unknown field 'rates'\. Did you mean 'rate'\?$"),
        ({"name": "a", "inner": {"x": {"dept": 1}}}, r"^here: inner\.x: unknown field 'dept'"),
        ({"name": "a", "rate": "1"}, r"^here: rate: '1' will not do\. Input should be a valid number$"),
        ({"name": "a", "seeds": ["1"]}, r"^here: seeds\.0: '1' will not do"),
        ({}, r"^here: name: Field required$"),
        ({"name": 1, "rate": True}, r"name: 1 will not do.*; rate: True will not do"),
    ],
)
def test_what_is_wrong_is_named_with_its_field(values: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        configured(Outer, values, "here")
