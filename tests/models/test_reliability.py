"""Stated figures, and which of them suffice."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from conftest import saved_generator
from retina_fm.errors import ConfigError
from retina_fm.models import read_config
from retina_fm.models.folder import write_config
from retina_fm.models.reliability import Reliability, fault_of, threshold_in

GOOD = {"on": "x", "healthy_share": 0.001, "precision": 0.7, "recall": 0.3}


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({}, None),
        ({"healthy_share": 0.03}, "healthy photographs is 3.00 %"),
        ({"healthy_share": None}, "was not measured"),
        ({"precision": None}, "never measured against labels"),
        ({"precision": 0.2}, "precision 0.20 and recall 0.30"),
        ({"recall": 0.0}, "recall 0.00"),
    ],
)
def test_lesions_have_to_be_quiet_right_and_there(changed: dict[str, float], why: str | None) -> None:
    found = fault_of({"drusen": Reliability.model_validate({**GOOD, **changed})}, "drusen")
    assert (found is None) if why is None else (found is not None and why in found)


def test_thresholds_are_those_stated() -> None:
    stated = {"drusen": Reliability(on="x", threshold=0.1), "scar": Reliability(on="x")}
    assert [threshold_in(stated, name) for name in ("drusen", "scar", "haemorrhage")] == [0.1, 0.5, 0.5]


def test_a_folder_states_figures_without_becoming_another_model(tmp_path: Path) -> None:
    folder = saved_generator(tmp_path / "tiny")
    plain = read_config(folder)
    assert plain.reliability == {} and "reliability" not in plain.model_dump(mode="json")
    write_config(folder, plain.model_copy(update={"reliability": {"drusen": Reliability(**GOOD)}}))
    found = read_config(folder)
    assert found.reliability["drusen"].precision == 0.7 and found.sha256 == plain.sha256
    with pytest.raises((ConfigError, ValidationError)):
        Reliability(on="x", precision=1.2)
