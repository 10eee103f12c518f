"""What a report shows beside figures: every picture has a file of its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from conftest import disc_picture
from retina_fm.evaluation.report.assets import _thumbnail


@pytest.mark.parametrize(
    "names", [("a b.png", "a-b.png"), ("x" * 200 + "1", "x" * 200 + "2"), ("\u00e9", "e\u0301")]
)
def test_two_pictures_of_like_names_have_a_thumbnail_each(tmp_path: Path, names: tuple[str, str]) -> None:
    shown = []
    for number, name in enumerate(names):
        photo = tmp_path / f"photo{number}.png"
        Image.fromarray(disc_picture(number)).save(photo)
        shown.append(np.asarray(Image.open(tmp_path / _thumbnail(tmp_path, "set", name, photo))))
    assert (shown[0] != shown[1]).any()
