from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from filelock import FileLock
from PIL import Image

import retina_fm
from conftest import disc_picture
from retina_fm.encoding import EncodeReport, resumable
from retina_fm.encoding.rows import RowReader
from retina_fm.errors import ConfigError, OutputError, PictureError, SkippedPictures

TINY = "fundus2video-tiny"


def encode_to(photos: object, out: Path, **settings: object) -> EncodeReport:
    return retina_fm.encode_to(photos, out, TINY, **{"dtype": "float32", **settings})  # type: ignore[arg-type]


def test_the_table_holds_vectors_geometry_and_what_made_them(photo_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "emb.parquet"
    report = encode_to(photo_folder, out)
    table = pq.read_table(out)
    assert report.rows == table.num_rows == 11 and report.reused == 0
    assert table.column("path").to_pylist()[0] == "photos/deep/eye10.png", "relative to the table"
    assert table.schema.field("embedding").type == pa.list_(pa.float32(), 64)
    vectors = np.array(table.column("embedding").to_pylist(), np.float32)
    assert np.allclose(vectors, retina_fm.encode(photo_folder, TINY, dtype="float32"), atol=1e-4)
    first = table.slice(0, 1).to_pylist()[0]
    assert (first["height"], first["width"]) == (128, 128)
    assert (
        abs(first["fov_x"] - 64) < 1 and abs(first["fov_radius"] - 0.46 * 128) < 1.5 and first["fov_circle"]
    )
    metadata = {key.decode(): value.decode() for key, value in table.schema.metadata.items()}
    encoder = retina_fm.load(TINY)
    assert metadata["transform_hash"] == encoder.transform.hash
    assert metadata["weights_sha256"] == encoder.weights_sha256 and metadata["model"] == TINY
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == [".emb.parquet.lock"]


def test_a_second_call_reuses_every_row_and_changes_nothing(photo_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "emb.parquet"
    encode_to(photo_folder, out)
    before = out.read_bytes()
    report = encode_to(photo_folder, out)
    assert report.reused == 11 and out.read_bytes() == before


def test_new_and_changed_photos_alone_are_encoded(photo_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "emb.parquet"
    encode_to(photo_folder, out)
    Image.fromarray(disc_picture(50)).save(photo_folder / "eye3.png")
    os.utime(photo_folder / "eye3.png", ns=(1, 1))
    Image.fromarray(disc_picture(51)).save(photo_folder / "eye12.png")
    (photo_folder / "eye4.png").unlink()
    report = encode_to(photo_folder, out)
    assert (report.rows, report.reused) == (11, 9)
    fresh = encode_to(photo_folder, tmp_path / "fresh.parquet")
    assert fresh.reused == 0
    one, other = pq.read_table(out), pq.read_table(tmp_path / "fresh.parquet")
    assert one.column("path") == other.column("path")
    assert np.allclose(
        np.array(one.column("embedding").to_pylist()),
        np.array(other.column("embedding").to_pylist()),
        atol=1e-4,
    )


def test_a_kill_at_any_moment_loses_nothing_and_repeats_nothing(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(16):
        Image.fromarray(disc_picture(number)).save(photos / f"eye{number}.png")
    encode_to(photos, tmp_path / "whole.parquet", batch_size=2)
    out = tmp_path / "killed.parquet"
    script = (
        "import retina_fm, time, sys\n"
        "from retina_fm.encoding import embedder, resumable\n"
        "resumable._WRITE_EVERY = 0\n"
        "call = embedder.Embedder.__call__\n"
        "def slow(self, views):\n"
        "    print('batch', len(views), flush=True); time.sleep(0.05); return call(self, views)\n"
        "embedder.Embedder.__call__ = slow\n"
        "r = retina_fm.encode_to(sys.argv[1], sys.argv[2], 'fundus2video-tiny', dtype='float32',\n"
        "                        batch_size=2, workers=0)\n"
        "print('done', r.rows, r.reused, flush=True)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(retina_fm.__file__).parent.parent)}
    batches, kills = 0, 0
    while True:
        command = [sys.executable, "-c", script, str(photos), str(out)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as run:
            assert run.stdout is not None
            seen = 0
            for line in run.stdout:
                if line.startswith("batch"):
                    seen += 1
                    batches += 1
                    if kills < 2 and seen == 3:
                        run.send_signal(signal.SIGKILL)
                elif line.startswith("done"):
                    assert line.split()[1] == "16"
        if run.returncode == 0:
            break
        kills += 1
        time.sleep(0.1)
    assert kills == 2
    assert batches <= 8 + 2, "only a batch under way at a kill may be computed again"
    assert out.read_bytes() == (tmp_path / "whole.parquet").read_bytes()
    assert not list(tmp_path.glob(".killed.parquet*.parts"))


def test_skipped_photos_are_reported_and_tried_again(photo_folder: Path, tmp_path: Path) -> None:
    bad = photo_folder / "eye5.png"
    bad.write_bytes(b"nonsense")
    out = tmp_path / "emb.parquet"
    with pytest.warns(SkippedPictures, match="eye5"):
        report = encode_to(photo_folder, out, on_error="skip")
    assert report.rows == 10 and report.skipped[0][0].endswith("eye5.png")
    Image.fromarray(disc_picture(5)).save(bad)
    assert (encode_to(photo_folder, out).rows, encode_to(photo_folder, out).reused) == (11, 11)


def test_skipped_photos_are_told_by_their_place_in_the_input(photo_folder: Path, tmp_path: Path) -> None:
    good, bad = photo_folder / "eye1.png", photo_folder / "eye5.png"
    bad.write_bytes(b"nonsense")
    for photos, places in (
        ([b"bad0", good, b"bad1", good], [0, 2]),
        ([good, bad, photo_folder / "eye2.png", bad], [1, 3]),
    ):
        with pytest.warns(SkippedPictures) as told:
            encode_to(photos, tmp_path / "emb.parquet", on_error="skip", overwrite=True)
        assert told[0].message.indices == places  # type: ignore[union-attr]


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize(
    ("columns", "told"),
    [
        ({"grade": ["1", "2"]}, "'grade' has 2 values"),
        ({"grade": ["1", "2", "3", "4"]}, "'grade' has 4 values for 3 photos"),
        ({"eye": ["left"], "grade": ["1", "2", "3"]}, "'eye' has 1 values"),
        ({"width": ["1", "2", "3"]}, "'width' is one that encode writes itself"),
    ],
)
def test_columns_that_do_not_fit_are_refused(
    photo_folder: Path, tmp_path: Path, columns: dict[str, list[str]], told: str, *, lazy: bool
) -> None:
    some = sorted(photo_folder.glob("*.png"))[:3]
    with pytest.raises(ConfigError, match=told):
        encode_to(iter(some) if lazy else some, tmp_path / "emb.csv", columns=columns)
    assert not (tmp_path / "emb.csv").exists()


def test_a_bad_photo_stops_but_keeps_what_was_finished(photo_folder: Path, tmp_path: Path) -> None:
    (photo_folder / "eye9.png").write_bytes(b"nonsense")
    out = tmp_path / "emb.parquet"
    with pytest.raises(PictureError, match="eye9"):
        encode_to(photo_folder, out, batch_size=2)
    assert not out.exists()
    (photo_folder / "eye9.png").unlink()
    report = encode_to(photo_folder, out, batch_size=2)
    assert report.rows == 10 and report.reused >= 8


def test_photos_that_are_no_files_and_repeated_ones(photo_folder: Path, tmp_path: Path) -> None:
    path = photo_folder / "eye1.png"
    photos = [path, path.read_bytes(), disc_picture(7), path]
    report = encode_to(photos, tmp_path / "emb.parquet")
    names = pq.read_table(tmp_path / "emb.parquet").column("path").to_pylist()
    assert report.rows == 4 and names[0] == names[3] and names[1].startswith("sha256:")
    assert encode_to(photos, tmp_path / "emb.parquet").reused == 4


def test_pictures_in_memory_are_told_apart_by_their_pixels(tmp_path: Path) -> None:
    out = tmp_path / "emb.parquet"
    first = [Image.fromarray(disc_picture(n)) for n in (1, 2)]
    encode_to(first, out)
    other = [Image.fromarray(disc_picture(n)) for n in (1, 3)]
    report = encode_to(other, out)
    assert (report.rows, report.reused) == (2, 1)
    vectors = np.array(pq.read_table(out).column("embedding").to_pylist(), np.float32)
    assert np.allclose(vectors, retina_fm.encode(other, TINY, dtype="float32"), atol=1e-4)


def test_open_files_are_encoded_although_their_bytes_name_them(photo_folder: Path, tmp_path: Path) -> None:
    with (photo_folder / "eye1.png").open("rb") as stream:
        assert encode_to([stream], tmp_path / "emb.parquet").rows == 1


def test_scratch_files_of_a_killed_run_are_removed(photo_folder: Path, tmp_path: Path) -> None:
    stale = tmp_path / ".emb.parquet.rfm-0123456789abcdef.part"
    stale.write_bytes(b"half a table")
    encode_to(photo_folder, tmp_path / "emb.parquet")
    assert not stale.exists()


def test_another_models_table_is_refused_unless_told(photo_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "emb.parquet"
    encode_to(photo_folder, out)
    table = pq.read_table(out)
    other = {**table.schema.metadata, b"weights_sha256": b"0" * 64, b"model": b"retfound"}
    pq.write_table(table.replace_schema_metadata(other), out)
    with pytest.raises(OutputError, match=r"retfound.*overwrite"):
        encode_to(photo_folder, out)
    assert encode_to(photo_folder, out, overwrite=True).reused == 0


def test_outputs_that_cannot_be_written_are_refused(photo_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "text.parquet").write_text("mine")
    with pytest.raises(OutputError, match="no Parquet table"):
        encode_to(photo_folder, tmp_path / "text.parquet")
    assert (tmp_path / "text.parquet").read_text() == "mine"
    with pytest.raises(OutputError, match="is a folder"):
        encode_to(photo_folder, photo_folder)


def test_a_second_writer_is_refused(photo_folder: Path, tmp_path: Path) -> None:
    with FileLock(tmp_path / ".emb.parquet.lock"), pytest.raises(OutputError, match="another process"):
        encode_to(photo_folder, tmp_path / "emb.parquet")


def test_a_full_disk_keeps_what_was_finished(
    photo_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, calls = resumable.write_part, []

    def full(path: Path, *rest: object) -> None:
        calls.append(path)
        if len(calls) > 2:
            raise OSError(28, "No space left on device")
        write(path, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(resumable, "write_part", full)
    monkeypatch.setattr(resumable, "_WRITE_EVERY", 0.0)
    out = tmp_path / "emb.parquet"
    with pytest.raises(OutputError, match="No space left"):
        encode_to(photo_folder, out, batch_size=2)
    monkeypatch.undo()
    assert encode_to(photo_folder, out, batch_size=2).reused == 4


def test_rows_are_found_in_any_row_group(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"x": list(range(10))}), path, row_group_size=3)
    reader = RowReader()
    assert [reader.row(path, i).column("x")[0].as_py() for i in (9, 0, 4, 3, 2)] == [9, 0, 4, 3, 2]
    reader.close()


def test_a_table_that_its_owner_added_a_column_to_is_kept(photo_folder: Path, tmp_path: Path) -> None:
    table = tmp_path / "emb.parquet"
    retina_fm.encode_to(photo_folder / "eye1.png", table, TINY)
    found = pq.read_table(table)
    pq.write_table(found.append_column("grade", pa.array([3])), table)
    with pytest.raises(OutputError, match=r"columns that encode does not write \(grade\)"):
        retina_fm.encode_to(photo_folder / "eye1.png", table, TINY)
    assert pq.read_table(table).column("grade").to_pylist() == [3]
    retina_fm.encode_to(photo_folder / "eye1.png", table, TINY, overwrite=True)
    assert "grade" not in pq.read_schema(table).names


def test_parts_of_a_killed_run_stay_whole_where_photos_have_moved(
    photo_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resumable, "_WRITE_EVERY", 0.0)
    (photo_folder / "eye8.png").write_bytes(b"nonsense")
    out = tmp_path / "emb.parquet"
    with pytest.raises(PictureError, match="eye8"):
        encode_to(photo_folder, out, batch_size=2)
    (photo_folder / "eye8.png").unlink()
    (photo_folder / "eye3.png").rename(photo_folder / "eye3b.png")  # a new name where a part begins
    Image.fromarray(disc_picture(90)).save(photo_folder / "deep" / "eye0.png")
    encode_to(photo_folder, out, batch_size=2)
    found = dict(
        zip(*(pq.read_table(out).column(name).to_pylist() for name in ("path", "embedding")), strict=True)
    )
    assert sorted(found) == sorted(
        f"photos/{p.relative_to(photo_folder)}" for p in photo_folder.rglob("*.png")
    )
    for path, vector in found.items():
        assert np.allclose(vector, retina_fm.encode(tmp_path / path, TINY, dtype="float32"), atol=1e-4), path
