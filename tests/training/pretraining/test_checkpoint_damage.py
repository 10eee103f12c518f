"""Checkpoints: damage is found before use, and only folders of ours are continued from or removed."""

from __future__ import annotations

import json
import shutil

import pytest
import torch

from retina_fm._io.strict_json import read_json
from retina_fm.errors import OutputError
from retina_fm.training.pretraining import checkpoints


def save(run, step, keep=2):
    tensors = {name: {"w": torch.arange(9.0) + step} for name in ("generator", "optimiser")}
    return checkpoints.save_checkpoint(run, step, tensors, {"step": step}, keep=keep)


@pytest.mark.parametrize("name", ["generator.safetensors", "optimiser.safetensors", "state.json"])
def test_every_flipped_bit_of_a_checkpoint_is_found_before_use(name, tmp_path):
    path = save(tmp_path, 2) / name
    whole = path.read_bytes()
    for bit in range(0, 8 * len(whole), 37):
        data = bytearray(whole)
        data[bit // 8] ^= 1 << (bit % 8)
        path.write_bytes(data)
        with pytest.raises(OutputError, match="continue from the one before"):
            checkpoints.load_checkpoint(path.parent)


def test_a_file_of_a_checkpoint_that_is_gone_is_noticed(tmp_path):
    folder = save(tmp_path, 2)
    (folder / "optimiser.safetensors").unlink()
    with pytest.raises(OutputError, match="optimiser"):
        checkpoints.load_checkpoint(folder)


def test_a_checkpoint_of_an_earlier_release_is_read(tmp_path):
    folder = save(tmp_path, 2)
    state = read_json(folder / "state.json")
    (folder / "state.json").write_text(json.dumps({"step": state["step"]}))
    found = checkpoints.load_checkpoint(folder)
    assert found.state == {"step": 2} and sorted(found.tensors) == ["generator", "optimiser"]


def test_a_copy_of_a_checkpoint_is_neither_continued_from_nor_removed(tmp_path):
    copy = tmp_path / checkpoints.FOLDER / "step-00000001-best"
    shutil.copytree(save(tmp_path, 1), copy)
    shutil.copytree(copy, copy.with_name("step-99999999-later"))
    shutil.copytree(copy, copy.with_name(".step-mine.part"))
    for step in (2, 3, 4):
        save(tmp_path, step)
    checkpoints.tidy_checkpoints(tmp_path)
    names = [folder.name for folder in checkpoints.list_checkpoints(tmp_path)]
    assert names == ["step-00000003", "step-00000004"]
    assert copy.is_dir() and copy.with_name(".step-mine.part").is_dir()
