"""An eye says of which bytes it is, and no kind of file makes preparing wait."""

from __future__ import annotations

import os
import sys

import numpy as np
import pytest
from PIL import Image

from retina_fm.training.simulator.eyes import prepare
from retina_fm.training.simulator.eyes.prepare_folder import prepare_folder


@pytest.mark.parametrize("swapped", ["photo.png", "vessels/photo.png"])
def test_a_file_that_is_swapped_while_it_is_prepared_makes_no_eye(
    tmp_path, drawn_retinas, monkeypatch, swapped
):
    (tmp_path / "vessels").mkdir()
    Image.fromarray(drawn_retinas[0].photo).save(tmp_path / "photo.png")
    Image.fromarray((drawn_retinas[0].vessels * 255).astype(np.uint8)).save(
        tmp_path / "vessels" / "photo.png"
    )
    prepare_eye = prepare.prepare_eye

    def swap(*arguments, **settings):
        eye = prepare_eye(*arguments, **settings)
        with Image.open(tmp_path / swapped) as image:
            turned = image.rotate(180)
        turned.save(tmp_path / swapped)
        return eye

    monkeypatch.setattr(prepare, "prepare_eye", swap)
    report = prepare_folder(
        [tmp_path / "photo.png"], tmp_path / "eyes", vessels=tmp_path / "vessels", size=128, workers=1
    )
    assert not report.eyes and "changed while it was read" in report.failed[0][1]
    assert not list((tmp_path / "eyes").glob("*.safetensors"))


@pytest.mark.skipif(sys.platform != "linux", reason="pipes of Linux")
def test_a_pipe_among_the_photos_is_a_failure_and_is_not_waited_for(tmp_path, drawn_retinas):
    os.mkfifo(tmp_path / "pipe.png")
    Image.fromarray(drawn_retinas[0].photo).save(tmp_path / "photo.png")
    report = prepare_folder(
        [tmp_path / "pipe.png", tmp_path / "photo.png"], tmp_path / "eyes", size=128, workers=1
    )
    assert len(report.eyes) == 1 and "not a regular file" in report.failed[0][1]
