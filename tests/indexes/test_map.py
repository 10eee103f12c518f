"""The map of an index: where pictures lie, what they are coloured by, what the page holds."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from index_helpers import TINY
from PIL import Image

import retina_fm
from conftest import disc_picture
from retina_fm.cli.main import main
from retina_fm.errors import ConfigError, MissingDependencyError
from retina_fm.indexes.map import layout, save_map, tints_of


def held(page: Path) -> Any:
    found = re.search(
        r'<script type="application/json" id="data">(.*?)</script>', page.read_text(), re.DOTALL
    )
    assert found
    return json.loads(found.group(1))


def test_heaps_stay_together_and_a_seed_gives_one_layout() -> None:
    random = np.random.default_rng(0)
    owners = np.repeat([0, 1, 2], 30)
    vectors = (3 * np.eye(3, 16)[owners] + 0.1 * random.normal(size=(90, 16))).astype(np.float32)
    at = layout(vectors)
    assert at.min() >= -1e-9 and at.max() <= 1 + 1e-9
    gaps = np.linalg.norm(at[:, None] - at[None], axis=2) + 9 * np.eye(90)
    assert (owners[gaps.argmin(axis=1)] == owners).all()
    assert np.array_equal(at, layout(vectors))


@pytest.mark.parametrize("count", [1, 2, 3, 5, 7])
def test_few_or_equal_pictures_are_laid_out_too(count: int) -> None:
    vectors = np.random.default_rng(1).normal(size=(count, 8)).astype(np.float32)
    assert layout(vectors).shape == (count, 2) and np.isfinite(layout(vectors)).all()
    assert np.ptp(layout(np.ones((count, 8), np.float32))) == 0
    with pytest.raises(ConfigError, match="tsne"):
        layout(vectors, "tnse")


def test_numbers_become_a_scale_and_few_values_groups() -> None:
    ages = tints_of([str(30 + i) for i in range(12)] + ["", None], "age")
    assert ages["kind"] == "scale" and (ages["low"], ages["high"], ages["without"]) == (30, 41, 2)
    assert ages["of"][0] == 0 and ages["of"][11] == 1 and ages["of"][12] is None
    grades = tints_of(["0", "2", "10", "2"], "grade")
    assert grades["groups"] == [["0", 1], ["2", 2], ["10", 1]] and grades["of"] == [0, 1, 2, 1]
    people = tints_of([str(i // 2) for i in range(30)], "patient_id")
    assert people["kind"] == "groups" and len(people["groups"]) == 10 and people["others"] == [5, 10]
    assert people["of"].count(-1) == 10
    assert tints_of(["a", "b", "nan", "1"], "mixed")["kind"] == "groups"


def test_the_page_holds_so_many_pictures_and_says_so(tmp_path: Path) -> None:
    for number in range(6):
        Image.fromarray(disc_picture(number, 64)).save(tmp_path / f"<b>{number}.png")
    rows = [{"label": "</script><b>", "age": 40 + number} for number in range(6)]
    index = retina_fm.index(tmp_path, TINY, store=tmp_path / "store", metadata=rows, signature=False)
    page = index.save_map(tmp_path / "map.html", colour="label", points=5, thumbnails=2)
    text, data = page.read_text(), held(page)
    assert "5 of 6 pictures are shown" in text and "2 of the points" in text
    assert "http" not in text and text.count("</script>") == 2
    assert len(data["points"]) == 5 and sum(bool(p["picture"]) for p in data["points"]) == 2
    assert data["tints"]["groups"] == [["</script><b>", 5]] and "age: 4" in "".join(
        data["points"][0]["about"]
    )
    assert held(save_map(index, tmp_path / "plain.html"))["tints"] is None
    with pytest.raises(ConfigError, match="grade"):
        save_map(index, tmp_path / "map.html", colour="grade")
    with pytest.raises(ConfigError, match="html"):
        save_map(index, tmp_path / "map.png")


def test_umap_is_asked_for_by_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "umap", None)
    with pytest.raises(MissingDependencyError, match="pip install umap-learn"):
        layout(np.random.default_rng(1).normal(size=(9, 8)).astype(np.float32), "umap")


def test_the_command_draws_a_map(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "eyes").mkdir()
    for number in range(3):
        Image.fromarray(disc_picture(number, 64)).save(tmp_path / "eyes" / f"{number}.png")
    page = tmp_path / "map.html"
    assert main(["index", str(tmp_path / "eyes"), "--model", TINY, "--map", str(page)]) == 0
    assert "a map of 3 pictures" in capsys.readouterr().out and len(held(page)["points"]) == 3
    store = str(tmp_path / "eyes" / ".retina-fm-index")
    assert main(["index", "--store", store, "--map", str(page), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["total"] == 3
