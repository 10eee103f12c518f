"""Other photographs of one eye in an index, beside exact and near duplicates."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from drawn_eyes import eye
from PIL import Image

import retina_fm
from conftest import saved_generator
from retina_fm.cli.main import main
from retina_fm.errors import IndexMismatchError
from retina_fm.indexes import ImageIndex
from retina_fm.indexes.pair_tables import save_pair_gallery, write_pairs


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> ImageIndex:
    """Two eyes, the first taken three times (once turned, once copied), and a picture of no vessel."""
    folder = tmp_path_factory.mktemp("eyes")
    picture = eye(0, 256)
    picture.save(folder / "a1.png")
    picture.rotate(8).save(folder / "a2.png")
    shutil.copy(folder / "a1.png", folder / "a3.png")
    eye(1, 256).save(folder / "b1.png")
    y, x = np.mgrid[:256, :256] - 127.5
    noise = np.array([150, 100, 60]) + np.random.default_rng(0).normal(0, 8, (256, 256, 1))
    haze = np.where(np.hypot(y, x)[..., None] < 115, np.clip(noise, 1, 255), 0)
    Image.fromarray(haze.astype(np.uint8)).save(folder / "empty.png")
    model = saved_generator(
        tmp_path_factory.mktemp("weights") / "seeing", vessels=True, coarse_maps=True, size=256
    )
    rows = [{"split": part, "patient_id": None} for part in ("train", "test", "train", "test", "test")]
    return retina_fm.index(folder, str(model), metadata=rows)


def test_another_photograph_of_an_eye_is_found_without_patients(index: ImageIndex) -> None:
    found = index.same_eyes(1e-4)
    names = {(Path(p.first).name, Path(p.second).name): p for p in found.pairs}
    assert set(names) == {("a1.png", "a2.png"), ("a1.png", "a3.png"), ("a2.png", "a3.png")}
    copy, turned = names["a1.png", "a3.png"], names["a1.png", "a2.png"]
    assert copy.kind == "same file" and copy.false_accept == pytest.approx(1e-6, rel=1e-3)
    assert turned.false_accept is not None and turned.false_accept <= 1e-4
    assert turned.differs_in("split") and not copy.differs_in("split")
    assert [Path(path).name for path in found.without_signature] == ["empty.png"]
    assert found.comparisons == 6 and found.expected_false == pytest.approx(6e-4)
    with pytest.raises(IndexMismatchError, match="signature=True"):
        retina_fm.index(index.embeddings).same_eyes()


def test_pairs_become_a_table_and_a_page(index: ImageIndex, tmp_path: Path) -> None:
    pairs = index.same_eyes(1e-4).pairs
    rows = list(csv.DictReader(write_pairs(pairs, tmp_path / "pairs.csv").read_text().splitlines()))
    assert len(rows) == 3 and {row["kind"] for row in rows} <= {"same file", "near", "same eye"}
    assert {(row["first_split"], row["second_split"]) for row in rows} >= {("train", "test")}
    assert all(float(row["false_accept"]) <= 1e-4 for row in rows)
    page = save_pair_gallery(pairs, tmp_path / "pairs.html", "Pairs").read_text()
    assert page.count("data:image/jpeg;base64,") == 6 and "same file" in page


def test_the_command_lists_them_and_says_what_to_expect(
    index: ImageIndex, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["index", "--store", str(index.folder), "--duplicates", "--false-accepts", "1e-4"]
    assert main([*asked, "--out", str(tmp_path / "pairs.csv")]) == 0
    said = capsys.readouterr().out
    assert "another split" in said and "6 comparisons at 1e-04: 0.0 pairs of different eyes" in said
    assert "1 pictures show no vessels" in said and (tmp_path / "pairs.csv").is_file()
    assert main([*asked, "--json"]) == 0
    assert {"kind", "false_accept", "first"} <= set(json.loads(capsys.readouterr().out)[0])
