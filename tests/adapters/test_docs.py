from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import disc_picture

PAGE = Path(__file__).resolve().parent.parent.parent / "docs" / "adapters.md"


def test_the_page_runs_from_top_to_bottom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("accelerate")
    monkeypatch.chdir(tmp_path)
    photos = [disc_picture(seed, 96) for seed in range(8)]
    mask = np.zeros((96, 96), np.uint8)
    mask[30:60, 30:60] = 255
    names: dict[str, Any] = {
        "photos": photos,
        "masks": [mask] * 8,
        "labels_of_photos": ["tint", "plain"] * 4,
        "patients": [f"p{number // 2}" for number in range(8)],
        "ages": list(range(8)),
    }
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len(blocks) == 7
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), names)
