"""Folders of lesion masks go by the names that people give them."""

from __future__ import annotations

import pytest

from retina_fm.errors import ConfigError
from retina_fm.training.simulator.eyes.lesion_folders import ignored_folders, lesion_folders


def test_lesion_folders_go_by_any_case_spaces_and_numbers(tmp_path):
    for name in ("1. Soft Exudates", "2_HAEMORRHAGES", "5. Optic Disc", ".git", "__MACOSX"):
        (tmp_path / name).mkdir()
    assert set(lesion_folders(tmp_path)) == {"haemorrhage", "cotton_wool_spot"}
    assert [path.name for path in ignored_folders(tmp_path)] == ["5. Optic Disc"]
    (tmp_path / "he").mkdir()
    with pytest.raises(ConfigError, match="Merge them"):
        lesion_folders(tmp_path)
