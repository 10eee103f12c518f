"""A run's log: TensorBoard gets scalars and sheets; what cannot be written is said."""

from __future__ import annotations

import pytest
from PIL import Image

from retina_fm.errors import OutputError
from retina_fm.training.pretraining.run_log import RunLog


def test_a_line_that_cannot_be_written_says_that_checkpoints_are_intact(tmp_path):
    log = RunLog(tmp_path, tensorboard=False)
    (tmp_path / "log.txt").mkdir()
    with pytest.raises(OutputError, match=r"checkpoints are intact.*--resume"):
        log.say("step 1")


def test_a_sheet_reaches_tensorboard(tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    Image.new("RGB", (8, 8)).save(tmp_path / "sheet.png")
    log = RunLog(tmp_path)
    log.picture(3, "validation/videos", tmp_path / "sheet.png")
    log.close()
    events = accumulator.EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [image.step for image in events.Images("validation/videos")] == [3]
