from __future__ import annotations

from pathlib import Path

import pytest
from index_helpers import draw


@pytest.fixture
def eyes(tmp_path: Path) -> Path:
    """Eight photos, and beside them a table of what is known about them."""
    names = [f"p{number // 2}_{'left' if number % 2 else 'right'}.png" for number in range(8)]
    draw(tmp_path / "eyes", names)
    lines = [f"eyes/{n},{i // 2:03d},{'left' if i % 2 else 'right'},{50 + i}" for i, n in enumerate(names)]
    (tmp_path / "labels.csv").write_text("path,patient_id,eye,age\n" + "\n".join(lines) + "\n")
    return tmp_path / "eyes"
