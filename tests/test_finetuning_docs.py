from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch

import retina_fm
import retina_fm.models.timm_models  # before Lightning, as the page says
from conftest import disc_picture

PAGE = Path(__file__).resolve().parent.parent / "docs" / "finetuning.md"


@pytest.fixture(scope="module")
def run_so_far(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return {
        "photos": [disc_picture(number, 96) for number in range(8)],
        "labels": [0, 1] * 4,
        "MODEL": "fundus2video-tiny",
    }


@pytest.mark.parametrize(
    ("number", "needs", "folder"),
    [(0, "torch", "mine"), (1, "lightning", "mine-too"), (2, "accelerate", "mine-three")],
)
@pytest.mark.filterwarnings("ignore")  # the training libraries' own
def test_an_example_trains_and_saves(
    number: int,
    needs: str,
    folder: str,
    run_so_far: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip(needs)
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len(blocks) == 3
    run_so_far.setdefault("data", None)
    if number == 2 and run_so_far["data"] is None:  # where Lightning is not installed
        run_so_far["data"] = torch.utils.data.TensorDataset(run_so_far["views"], run_so_far["targets"])
    exec(compile(blocks[number], str(PAGE), "exec"), run_so_far)
    again = retina_fm.load(str(tmp_path / folder))
    before = retina_fm.load("fundus2video-tiny")
    assert again.num_classes == 2
    assert not torch.equal(again.model[1].weight, before.model[1].weight), "the encoder itself was trained"
