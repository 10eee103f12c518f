from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from index_helpers import TINY, draw
from PIL import Image

from retina_fm.cli.main import main


@pytest.fixture
def eyes(tmp_path: Path) -> Path:
    draw(tmp_path / "eyes", ["a left.png", "a_right.png", "b_left.png", "b_right.png"])
    rows = "".join(
        f"eyes/{n},{n[0]},{n[2:-4]}\n" for n in ("a left.png", "a_right.png", "b_left.png", "b_right.png")
    )
    (tmp_path / "labels.csv").write_text("path,patient_id,eye\n" + rows)
    return tmp_path / "eyes"


def test_index_then_search_prints_hits_and_draws_them(
    eyes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["index", str(eyes), "--model", TINY, "--metadata", str(tmp_path / "labels.csv")]) == 0
    assert "4 pictures (0 unchanged, 4 encoded" in capsys.readouterr().out
    query = str(eyes / "a left.png")
    page, sheet = tmp_path / "out.html", tmp_path / "out.png"
    common = ["search", str(eyes), query, "-k", "2", "--exclude-same", "path"]
    assert main([*common, "--gallery", str(page)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == query and len(lines) == 3 and "patient_id=" in lines[1]
    text = page.read_text()
    assert text.count("data:image/jpeg;base64,") == 3 and "http" not in text and "a left.png" in text
    assert main([*common, "--where", "eye=right", "--json", "--gallery", str(sheet)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [hit["metadata"]["eye"] for hit in found[0]["hits"]] == ["right", "right"]
    assert found[0]["hits"][0]["rank"] == 1
    drawn = np.array(Image.open(sheet))
    assert drawn.shape[1] > 3 * 200 and len(np.unique(drawn.reshape(-1, 3), axis=0)) > 100


def test_verify_rebuild_compact_and_duplicates(
    eyes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(eyes / "b_left.png", eyes / "copy.png")
    store = str(tmp_path / "store")
    assert main(["index", str(eyes), "--store", store, "--model", TINY, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["encoded"] == 5
    assert main(["index", "--store", store, "--verify"]) == 0
    assert main(["index", "--store", store, "--duplicates", "--gallery", str(tmp_path / "d.html")]) == 0
    assert "same file" in capsys.readouterr().out and (tmp_path / "d.html").stat().st_size > 1000
    (Path(store) / "index.faiss").write_bytes(b"cut")
    assert main(["index", "--store", store, "--verify", "--json"]) == 1
    assert "damaged" in json.loads(capsys.readouterr().out)["faults"][0]
    assert main(["index", "--store", store, "--rebuild"]) == 0
    assert main(["index", "--store", store, "--compact"]) == 0
    capsys.readouterr()
    assert main(["index", "--store", store, "--verify"]) == 0
    assert "every byte is as it was written" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["index"], "Name one folder"),
        (["index", "--store", "none"], "Name photos to index"),
        (["index", "--store", "none", "--verify"], "holds no index"),
        (["search", "none", "x.png"], "holds no index"),
    ],
)
def test_what_is_missing_is_named(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 1
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
