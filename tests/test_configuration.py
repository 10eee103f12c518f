"""Settings are checked when they are made, and what is wrong with them is said by field."""

from __future__ import annotations

import pickle
from typing import Annotated, ClassVar, Literal

import pytest
from pydantic import Field

from retina_fm.configuration import AnyPath, Configuration
from retina_fm.errors import ConfigError


class Inner(Configuration):
    section: ClassVar[str] = "inner"

    rate: float = 0.5
    kind: Literal["a", "b"] = "a"
    sides: Annotated[tuple[int | None, ...], Field(strict=False)] = (8,)


class Outer(Configuration):
    inner: Inner = Inner()
    count: Annotated[int, Field(ge=1)] = 1
    place: AnyPath | None = None
    named: str
    several: dict[str, Inner] = Field(default_factory=dict)
    perhaps: Inner | None = None


def test_plain_values_and_back() -> None:
    one = Outer(named="x", inner=Inner(sides=(8, None)), place="a/b")
    plain = one.model_dump(mode="json")
    assert plain["inner"]["sides"] == [8, None] and plain["place"] == "a/b"
    assert Outer.model_validate(plain) == one == pickle.loads(pickle.dumps(one))
    assert isinstance(Inner(rate=1).rate, float)


WRONG = {
    "count is 0; it must be a number >= 1": {"count": 0},
    "count is True; it must be a whole number": {"count": True},
    "count is '3'; it must be a whole number": {"count": "3"},
    r"inner.rate is 'fast'; it must be a number": {"inner": {"rate": "fast"}},
    r"inner.rate is nan; it must be a finite number": {"inner": {"rate": float("nan")}},
    r"inner.kind is 'c'; it must be 'a' or 'b'": {"inner": {"kind": "c"}},
    r"inner.sides.0 is 'x'; it must be a whole number": {"inner": {"sides": ["x"]}},
    r"inner has unknown fields \['rat'\]. Did you mean 'rate'": {"inner": {"rat": 1}},
    r"The configuration has unknown fields \['cuont'\]. Did you mean 'count'": {"cuont": 1},
    r"several.x has unknown fields \['rat'\]. Did you mean 'rate'": {"several": {"x": {"rat": 1}}},
    r"perhaps has unknown fields \['rat'\]. Did you mean 'rate'": {"perhaps": {"rat": 1}},
    "inner is 3; it must be a table": {"inner": 3},
    "The configuration lacks 'named'": {"named": ...},
}


@pytest.mark.parametrize("said", WRONG)
def test_what_is_wrong_is_named(said: str) -> None:
    values = {k: v for k, v in {"named": "x", **WRONG[said]}.items() if v is not ...}
    with pytest.raises(ConfigError, match=f"^{said}"):
        Outer.model_validate(values)


def test_settings_stay_and_copies_are_checked() -> None:
    one = Inner()
    with pytest.raises(ConfigError, match=r"^inner\.rate is 'fast'"):
        one.model_copy(update={"rate": "fast"})
    with pytest.raises(ConfigError, match="Did you mean 'rate'"):
        one.model_copy(update={"rates": 1.0})
    assert one.model_copy(update={"rate": 1}).rate == 1.0 and one.rate == 0.5
    with pytest.raises(ValueError, match="frozen"):
        one.rate = 2.0  # type: ignore[misc]
