from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from PIL import Image

import retina_fm
from conftest import disc_picture
from retina_fm._io.parquet_seals import seal_parquet
from retina_fm.cli.main import main
from retina_fm.encoding import merging
from retina_fm.encoding.shards import Shard
from retina_fm.errors import ConfigError, MergeError, OutputError
from tests.pictures.camera_files import e2e

TINY = "fundus2video-tiny"
SETTINGS = {"dtype": "float32", "workers": 0, "batch_size": 1, "progress": False}
SEVEN = range(1, 8)


def encode(photos: object, out: Path, **settings: object) -> retina_fm.encoding.EncodeReport:
    return retina_fm.encode_to(photos, out, TINY, **{**SETTINGS, **settings})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven shards of 23 photos, no two of them alike in size, and the table of a single run."""
    root = tmp_path_factory.mktemp("shards")
    (root / "photos" / "2").mkdir(parents=True)
    for number in range(23):
        below = root / "photos" / "2" if number % 3 == 0 else root / "photos"
        Image.fromarray(disc_picture(number, 32)).save(below / f"eye{number}.png")
    encoder = retina_fm.load(TINY)
    retina_fm.encode_to(root / "photos", root / "single.parquet", encoder, **SETTINGS)  # type: ignore[arg-type]
    for number in SEVEN:
        part = root / "parts" / f"part-{number}.parquet"
        retina_fm.encode_to(root / "photos", part, encoder, shard=(number, 7), **SETTINGS)  # type: ignore[arg-type]
    return root


@pytest.fixture
def parts(made: Path, tmp_path: Path) -> Path:
    """A copy of the seven parts that may be spoilt, beside the same photos."""
    shutil.copytree(made / "parts", tmp_path / "parts")
    (tmp_path / "photos").mkdir()
    return tmp_path / "parts"


def test_a_shard_is_read_as_it_is_written() -> None:
    assert Shard.read("3/7") == Shard.read((3, 7)) == Shard(3, 7) and str(Shard(3, 7)) == "3/7"
    for wrong in ("0/7", "8/7", "3", "a/b", (3,), (1.0, 7), "-1/7"):
        with pytest.raises(ConfigError, match="write I/N"):
            Shard.read(wrong)  # type: ignore[arg-type]


def test_a_photo_belongs_to_one_shard_for_ever() -> None:
    names = [f"clinic/eye{number}.png" for number in range(500)]
    homes = [[shard for shard in SEVEN if Shard(shard, 7).holds(name)] for name in names]
    assert all(len(home) == 1 for home in homes)
    assert min(homes.count([shard]) for shard in SEVEN) > 40
    assert homes[0] == [4], "tables written by earlier versions must fit"


def test_seven_uneven_shards_are_the_single_run(made: Path, tmp_path: Path) -> None:
    sizes = [pq.read_metadata(made / "parts" / f"part-{number}.parquet").num_rows for number in SEVEN]
    assert sum(sizes) == 23 and len(set(sizes)) > 2
    report = retina_fm.merge(made / "parts", made / "all.parquet")
    assert (report.rows, report.parts) == (23, 7)
    assert (made / "all.parquet").read_bytes() == (made / "single.parquet").read_bytes()
    assert encode(made / "photos", made / "all.parquet").reused == 23
    assert [path.name for path in made.iterdir() if "merging" in path.name] == []


def test_files_with_several_pictures_are_divided_whole_and_merge_to_the_single_run(tmp_path: Path) -> None:
    grey = disc_picture(0, 32)[..., 1]
    (tmp_path / "photos").mkdir()
    for name in ("c2.e2e", "c10.e2e"):
        (tmp_path / "photos" / name).write_bytes(e2e([(grey, "R")] * 11))
    for name in ("c1.e2e!.png", "c1.png", "c2.e2f.png"):
        Image.fromarray(disc_picture(1, 32)).save(tmp_path / "photos" / name)
    encoder = retina_fm.load(TINY)
    settings: dict[str, object] = {**SETTINGS, "pseudonymise": tmp_path / "key"}
    (tmp_path / "key").write_bytes(b"k" * 32)
    retina_fm.encode_to(tmp_path / "photos", tmp_path / "single.parquet", encoder, **settings)  # type: ignore[arg-type]
    for number in (1, 2):
        part = tmp_path / "parts" / f"{number}.parquet"
        retina_fm.encode_to(tmp_path / "photos", part, encoder, shard=(number, 2), **settings)  # type: ignore[arg-type]
    assert retina_fm.merge(tmp_path / "parts", tmp_path / "all.parquet").rows == 25
    assert (tmp_path / "all.parquet").read_bytes() == (tmp_path / "single.parquet").read_bytes()


def test_more_parts_than_are_open_at_once_are_joined_in_rounds(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(merging, "_AT_ONCE", 2)
    monkeypatch.setattr(merging, "_BATCH", 2)
    out = made / "rounds.parquet"
    assert retina_fm.merge([made / "parts" / "part-*.parquet"], out).rows == 23
    assert out.read_bytes() == (made / "single.parquet").read_bytes()


def test_new_photos_move_no_other(made: Path, tmp_path: Path) -> None:
    names = sorted(path.name for path in (made / "photos").rglob("*.png"))
    for number in SEVEN:
        before = {name for name in names if Shard(number, 7).holds(name)}
        after = {name for name in ["aaa.png", *names, "zzz.png"] if Shard(number, 7).holds(name)}
        assert after - {"aaa.png", "zzz.png"} == before


def test_a_missing_shard_is_named_by_its_file(parts: Path) -> None:
    (parts / "part-3.parquet").unlink()
    with pytest.raises(MergeError, match=r"shard 3/7 is missing \(.*part-3\.parquet\)"):
        retina_fm.merge(parts, parts.parent / "all.parquet")
    assert not (parts.parent / "all.parquet").exists()


def test_a_run_of_other_weights_that_never_ended_is_forgotten(
    made: Path, parts: Path, tmp_path: Path
) -> None:
    shutil.copytree(made / "photos", tmp_path / "photos", dirs_exist_ok=True)
    left = parts / ".part-3.parquet.0123abcd.parts"
    left.mkdir()
    (left / "000000000000.parquet").write_bytes(b"rows of other weights")
    with pytest.raises(MergeError, match="run its command again"):
        retina_fm.merge(parts, tmp_path / "all.parquet")
    encode(tmp_path / "photos", parts / "part-3.parquet", shard="3/7")
    assert not left.exists()
    assert retina_fm.merge(parts, tmp_path / "all.parquet").rows == 23


def test_an_unfinished_shard_is_said_to_be_so(parts: Path) -> None:
    (parts / "part-3.parquet").unlink()
    (parts / ".part-3.parquet.0123abcd.parts").mkdir()
    with pytest.raises(MergeError, match=r"shard 3/7 is unfinished \(.*part-3\.parquet\)"):
        retina_fm.merge(parts, parts.parent / "all.parquet")
    with pytest.raises(MergeError, match=r"part-3\.parquet is unfinished"):
        retina_fm.merge([parts / f"part-{n}.parquet" for n in SEVEN], parts.parent / "all.parquet")
    (parts / ".part-4.parquet.0123abcd.parts").mkdir()
    with pytest.raises(MergeError, match=r"part-4\.parquet is being changed"):
        retina_fm.merge(parts, parts.parent / "all.parquet")


def test_a_shard_that_is_there_twice_is_named(parts: Path) -> None:
    shutil.copy(parts / "part-5.parquet", parts / "again.parquet")
    with pytest.raises(MergeError, match=r"again\.parquet and .*part-5\.parquet are all shard 5"):
        retina_fm.merge(parts, parts.parent / "all.parquet")


def with_metadata(path: Path, **changes: str) -> None:
    """A part as another run would have written it."""
    found = pq.read_table(path)
    metadata = {**found.schema.metadata, **{key.encode(): value.encode() for key, value in changes.items()}}
    pq.write_table(found.replace_schema_metadata(metadata), path)


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda path: with_metadata(path, weights_sha256="0" * 64, model="retfound"), r"retfound.*weights"),
        (lambda path: with_metadata(path, transform_hash="0" * 16), "transform_hash"),
        (lambda path: with_metadata(path, shard="2/9"), "one of 9 shards, most are one of 7"),
        (lambda path: with_metadata(path, shard_root="../elsewhere"), "of the folder .*elsewhere"),
        (lambda path: path.write_bytes(path.read_bytes()[:-9]), "cannot be read"),
        (
            lambda path: pq.write_table(pq.read_table(path).drop_columns(["width"]), path),
            "with the columns path, embedding, height",
        ),
    ],
    ids=["model", "transform", "of", "root", "cut", "columns"],
)
def test_a_part_of_something_else_is_named(parts: Path, spoil: Callable[[Path], None], told: str) -> None:
    part = parts / "part-4.parquet"
    spoil(part)
    with pytest.raises(MergeError, match=rf"{part.name}.*{told}"):
        retina_fm.merge(parts, parts.parent / "all.parquet")


def test_rows_of_another_shard_are_seen(parts: Path) -> None:
    with_metadata(parts / "part-1.parquet", shard="2/7")
    with_metadata(parts / "part-2.parquet", shard="1/7")
    with pytest.raises(MergeError, match=r"part-\d\.parquet says that it is shard .* does not belong"):
        retina_fm.merge(parts, parts.parent / "all.parquet")


def test_a_whole_table_is_no_part_and_another_shard_takes_no_file(made: Path, parts: Path) -> None:
    shutil.copy(made / "single.parquet", parts / "single.parquet")
    with pytest.raises(MergeError, match=r"single\.parquet names no shard"):
        retina_fm.merge(parts, parts.parent / "all.parquet")
    with pytest.raises(OutputError, match="another shard"):
        encode(made / "photos", made / "parts" / "part-1.parquet", shard="2/7")


def test_what_has_no_shards_is_refused(made: Path, tmp_path: Path) -> None:
    out = tmp_path / "emb.parquet"
    for photos in ([made / "photos" / "eye1.png"], made / "photos" / "eye1.png", disc_picture()):
        with pytest.raises(ConfigError, match="one folder or one pattern"):
            encode(photos, out, shard="1/2")
    with pytest.raises(ConfigError, match=r"a shard is a \.parquet"):
        encode(made / "photos", tmp_path / "emb.csv", shard="1/2")
    with pytest.raises(ConfigError, match=r"a shard is a \.parquet"):
        retina_fm.measure_to(made / "photos", tmp_path / "emb.csv", shard="1/2")


def test_shards_of_a_pattern_and_an_empty_shard(made: Path) -> None:
    pattern = str(made / "photos" / "eye1*.png")
    sizes = [len(Shard(number, 30).photos(pattern)) for number in range(1, 31)]
    assert sum(sizes) == 8 and 0 in sizes
    for number in (sizes.index(0), sizes.index(1)):  # file names count from 0, as job arrays may
        report = encode(pattern, made / f"of-{number}.parquet", shard=(number + 1, 30))
        assert report.rows == sizes[number]
    missing = next(number for number in range(30) if not (made / f"of-{number}.parquet").exists())
    with pytest.raises(MergeError, match=rf"shard {missing + 1}/30 is missing \(.*of-{missing}\.parquet\)"):
        retina_fm.merge([made / "of-*.parquet"], made / "of.parquet")


def test_commands_shard_and_merge(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    photos = str(made / "photos")
    for number in (1, 2):
        arguments = ["encode", photos, "--model", TINY, "--shard", f"{number}/2", "--workers", "0"]
        assert main([*arguments, "--out", f"p{number}.parquet"]) == 0
    assert main(["merge", "p1.parquet", "--out", "all.parquet"]) == 1
    assert "p2.parquet" in capsys.readouterr().err
    assert main(["merge", "p1.parquet", "p2.parquet", "--out", "all.parquet"]) == 0
    assert "23 rows of 2 parts" in capsys.readouterr().out
    assert main(["merge", "p1.parquet", "p2.parquet", "--out", "all.parquet"]) == 1
    assert "--overwrite" in capsys.readouterr().err
    assert main(["encode", photos, photos, "--shard", "1/2", "--out", "x.parquet"]) == 1
    assert "one folder" in capsys.readouterr().err
    assert main(["measure", photos, "--shard", "3/2", "--out", "x.parquet"]) == 1


def test_parts_that_are_none_or_of_very_many_are_said(made: Path, tmp_path: Path) -> None:
    with pytest.raises(MergeError, match="No part was named"):
        retina_fm.merge([], tmp_path / "all.parquet")
    part = tmp_path / "part-1.parquet"
    table = pq.read_table(made / "parts" / "part-1.parquet")
    stated = {**table.schema.metadata, b"shard": b"1/999999999999"}
    pq.write_table(table.replace_schema_metadata(stated), part, compression="none")
    seal_parquet(part)
    with pytest.raises(MergeError, match="and 1 more") as told:
        retina_fm.merge([part], tmp_path / "all.parquet")
    assert "shard 2/999999999999 is missing" in str(told.value)
