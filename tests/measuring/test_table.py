"""Tables of measurements: in memory, in files, continued, refused."""

from __future__ import annotations

import csv
from pathlib import Path

import pyarrow.parquet as pq
import pytest

import retina_fm
from conftest import saved_generator
from retina_fm.cli.main import main
from retina_fm.errors import ConfigError, OutputError, SkippedPictures
from retina_fm.measuring import COLUMNS
from retina_fm.network import Encoder
from retina_fm.network.architecture import ANATOMY


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("measuring") / "tiny-anatomy"
    return str(saved_generator(folder, vessels=True, anatomy=ANATOMY))


def test_photos_become_rows_in_order(photo_folder: Path, model: str) -> None:
    table = retina_fm.measure(photo_folder, model, progress=False)
    assert table.num_rows == 11 and set(COLUMNS) < set(table.column_names)
    assert [Path(path).name for path in table.column("path").to_pylist()][:3] == [
        "eye10.png",
        "eye11.png",
        "eye1.png",
    ]
    assert all(0 <= value <= 1 for value in table.column("quality").to_pylist())
    assert all(table.column("reasons").to_pylist())
    one = retina_fm.measure(photo_folder / "eye2.png", retina_fm.load(model), dtype="float32")
    assert one.num_rows == 1 and one.column("width").to_pylist() == [128]


def test_the_network_is_asked_once_a_photo(
    photo_folder: Path, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes = []
    maps = Encoder.maps
    monkeypatch.setattr(Encoder, "maps", lambda self, view: passes.append(len(view)) or maps(self, view))
    retina_fm.measure(photo_folder, model, batch_size=4, progress=False)
    assert passes == [4, 4, 3]


def test_no_cell_is_a_formula(photo_folder: Path, tmp_path: Path, model: str) -> None:
    photo = {"path": str(photo_folder / "eye1.png"), "patient_id": "=cmd()"}
    retina_fm.measure_to([photo], tmp_path / "t.csv", model, progress=False)
    with (tmp_path / "t.csv").open(encoding="utf-8") as file:
        assert next(csv.DictReader(file))["patient_id"] == "'=cmd()"


def test_a_table_is_brought_up_to_date(photo_folder: Path, tmp_path: Path, model: str) -> None:
    out = tmp_path / "t.parquet"
    first = retina_fm.measure_to(photo_folder, out, model, progress=False)
    assert (first.rows, first.reused) == (11, 0)
    (photo_folder / "eye3.png").unlink()
    again = retina_fm.measure_to(photo_folder, out, model, progress=False)
    assert (again.rows, again.reused) == (10, 10)
    found = pq.read_table(out)
    assert found.column("path").to_pylist()[0] == "photos/deep/eye10.png"
    assert found.schema.metadata[b"definitions"] and found.column("file_size")[0].as_py() > 0
    with pytest.raises(OutputError, match="another unreliable"):
        retina_fm.measure_to(photo_folder, out, model, allow_unreliable=True, progress=False)


def test_a_text_table_says_the_same_and_is_continued(photo_folder: Path, tmp_path: Path, model: str) -> None:
    out = tmp_path / "t.csv"
    retina_fm.measure_to(photo_folder, out, model, progress=False)
    with out.open(newline="") as file:
        rows = list(csv.DictReader(file))
    table = retina_fm.measure(photo_folder, model, progress=False)
    assert [float(row["quality"]) for row in rows] == pytest.approx(table.column("quality").to_pylist())
    assert all(row["crae"] == "" for row in rows)
    assert main(["measure", str(photo_folder), "--out", str(out), "--model", model]) == 0
    assert retina_fm.measure_to(photo_folder, out, model, progress=False).reused == 11


def test_a_text_table_that_somebody_changed_is_not_replaced(
    photo_folder: Path, tmp_path: Path, model: str
) -> None:
    out = tmp_path / "t.csv"
    photos = [photo_folder / "eye1.png"]
    retina_fm.measure_to(photos, out, model, progress=False)
    written = out.read_text()
    (tmp_path / ".t.csv.sum").unlink()  # a run that was killed just before it wrote this is continued
    assert retina_fm.measure_to(photos, out, model, progress=False).reused == 1
    mine = "".join(f"{line},note\n" for line in written.splitlines())
    out.write_text(mine)
    with pytest.raises(OutputError, match="was changed since measure wrote it"):
        retina_fm.measure_to(photo_folder, out, model, progress=False)
    assert out.read_text() == mine
    retina_fm.measure_to(photos, out, model, overwrite=True, progress=False)
    assert out.read_text() == written


def test_what_is_not_ours_is_not_replaced(photo_folder: Path, tmp_path: Path, model: str) -> None:
    out = tmp_path / "mine.csv"
    out.write_text("a,b\n")
    with pytest.raises(OutputError, match="was not written by measure"):
        retina_fm.measure_to(photo_folder, out, model)
    assert out.read_text() == "a,b\n"
    with pytest.raises(ConfigError, match=r"\.parquet or a \.csv"):
        retina_fm.measure_to(photo_folder, tmp_path / "t.xlsx", model)


def test_bad_photos_are_skipped_and_blind_models_refused(photo_folder: Path, model: str) -> None:
    (photo_folder / "eye2.png").write_bytes(b"nonsense")
    with pytest.warns(SkippedPictures, match="eye2"):
        table = retina_fm.measure(photo_folder, model, on_error="skip", progress=False)
    assert table.num_rows == 10
    with pytest.raises(ConfigError, match="fundus2video-half"):
        retina_fm.measure(photo_folder, "fundus2video-tiny")


def test_shards_are_merged_to_the_table_of_one_run(photo_folder: Path, tmp_path: Path, model: str) -> None:
    single = tmp_path / "single.parquet"
    loaded = retina_fm.load(model)
    retina_fm.measure_to(photo_folder, single, loaded, batch_size=1, progress=False)
    for number in (1, 2):
        part = tmp_path / f"part-{number}.parquet"
        retina_fm.measure_to(photo_folder, part, loaded, batch_size=1, progress=False, shard=f"{number}/2")
    assert retina_fm.merge([tmp_path / "part-*.parquet"], tmp_path / "all.parquet").rows == 11
    assert (tmp_path / "all.parquet").read_bytes() == single.read_bytes()
