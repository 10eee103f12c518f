"""Checkpoints appear whole or not at all, also after a kill or a crash of the machine."""

from __future__ import annotations

import torch

from retina_fm.training.pretraining import checkpoints


def save(run, step):
    return checkpoints.save_checkpoint(run, step, {"generator": {"w": torch.ones(2)}}, {"step": step})


def test_what_a_kill_left_is_tidied(tmp_path):
    home = tmp_path / checkpoints.FOLDER
    save(tmp_path, 2)
    save(tmp_path, 4).rename(home / ".step-00000004.old")  # killed between the two renames
    (home / ".step-00000002.old").mkdir()
    (home / ".step-00000006.part").mkdir()
    checkpoints.tidy_checkpoints(tmp_path)
    assert sorted(path.name for path in home.iterdir()) == ["step-00000002", "step-00000004"]
    assert checkpoints.load_checkpoint(home / "step-00000004").state == {"step": 4}


def test_a_folder_without_checkpoints_is_left_alone(tmp_path):
    checkpoints.tidy_checkpoints(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_checkpoints_folder_is_on_disk_before_it_is_renamed(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(
        checkpoints, "sync_folder", lambda folder: synced.append((folder.name, folder.exists()))
    )
    save(tmp_path, 2)
    assert synced == [(".step-00000002.part", True), (checkpoints.FOLDER, True)]
