"""Every flipped bit of a sealed file is seen; what is no seal of ours, or was written by others, passes."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from retina_fm._io import seals
from retina_fm._io.parquet_seals import EMPTY, KEY, check_parquet, seal_parquet
from retina_fm._io.strict_json import parse_json, read_json, sealed, write_sealed_json
from retina_fm._io.tables import read_csv
from retina_fm._io.tensor_files import header_of, load_sealed, save_sealed

ARRAYS = {"x": np.arange(60, dtype=np.float32).reshape(6, 10), "flags": np.ones(5, bool)}
TABLE = pa.table({"path": [f"eye{n}.png" for n in range(40)], "value": np.arange(40.0)})


def write_parquet(path: Path) -> None:
    pq.write_table(TABLE.replace_schema_metadata({"model": "m", KEY: EMPTY}), path)
    seal_parquet(path)


def read_parquet(path: Path) -> Any:
    check_parquet(path)
    return pq.read_table(path).to_pydict()


KINDS: dict[str, tuple[Callable[[Path], Any], Callable[[Path], Any]]] = {
    "parquet": (write_parquet, read_parquet),
    "safetensors": (
        lambda path: path.write_bytes(save_sealed(ARRAYS, {"eye": '{"a": 1}'})),
        lambda path: str(load_sealed(path.read_bytes(), must=True)),
    ),
    "json": (lambda path: write_sealed_json(path, {"a": [1, 2.5], "b": {"c": "d"}}), read_json),
    "npz": (
        lambda path: path.write_bytes(seals.npz_bytes(ARRAYS)),
        lambda path: str(seals.read_npz(path)),
    ),
    "npy": (
        lambda path: path.write_bytes(seals.npy_bytes(ARRAYS["x"])),
        lambda path: str(seals.read_npy(path)),
    ),
    "csv": (lambda path: seals.write_table_output(path, b"path,label\na.png,1\nb.png,0\n"), read_csv),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_no_flipped_bit_of_a_sealed_file_is_read_as_something_else(kind: str, tmp_path: Path) -> None:
    write, read = KINDS[kind]
    path = tmp_path / "file"
    write(path)
    whole, truth, time = path.read_bytes(), read(path), path.stat().st_mtime_ns
    random = np.random.Generator(np.random.PCG64(0))
    for bit in random.choice(8 * len(whole), min(200, 8 * len(whole)), replace=False):
        data = bytearray(whole)
        data[bit // 8] ^= 1 << (bit % 8)
        path.write_bytes(data)
        os.utime(path, ns=(time, time))  # a disk that forgets does not say when
        try:
            found = read(path)
        except (OSError, ValueError):
            continue
        assert found == truth, f"bit {bit} changed what was read"


def test_a_sealed_file_has_the_same_bytes_each_time() -> None:
    notes = dict.fromkeys(("eye", "a", "z", "b", "y"), "1")
    assert len({save_sealed(ARRAYS, notes) for _ in range(20)}) == 1


def test_a_table_that_its_owner_wrote_anew_with_our_metadata_is_read(tmp_path: Path) -> None:
    write_parquet(tmp_path / "t.parquet")
    table = pq.read_table(tmp_path / "t.parquet")
    pq.write_table(table.append_column("label", [list(range(40))]), tmp_path / "t.parquet")
    assert "label" in read_parquet(tmp_path / "t.parquet")


def test_a_csv_that_its_owner_edited_is_read(tmp_path: Path) -> None:
    path = tmp_path / "pairs.csv"
    seals.write_table_output(path, b"path\na\n")
    path.write_bytes(b"path\nb\n")
    later = path.stat().st_mtime_ns + 10**9
    os.utime(path, ns=(later, later))
    assert read_csv(path).rows == [{"path": "b"}]


def test_files_without_a_seal_are_read(tmp_path: Path) -> None:
    pq.write_table(TABLE, tmp_path / "t")
    assert read_parquet(tmp_path / "t") == TABLE.to_pydict()
    np.save(tmp_path / "a.npy", ARRAYS["x"])
    assert np.array_equal(seals.read_npy(tmp_path / "a.npy"), ARRAYS["x"])
    (tmp_path / "j").write_text('{"a": 1}')
    assert read_json(tmp_path / "j") == {"a": 1}


def test_numpy_itself_reads_what_has_a_checksum_at_its_end(tmp_path: Path) -> None:
    (tmp_path / "a.npy").write_bytes(seals.npy_bytes(ARRAYS["x"]))
    assert np.array_equal(np.load(tmp_path / "a.npy"), ARRAYS["x"])


def test_keys_that_are_numbers_keep_their_seal() -> None:
    assert read_back(sealed({"seen": {10: 1, 9: 2}})) == {"seen": {"10": 1, "9": 2}}


def read_back(value: Any) -> Any:
    from retina_fm._io.strict_json import unsealed

    return unsealed(json.loads(json.dumps(value)))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"a": 1, "a": 2}', "'a' comes twice"),
        ("[" * 100_000, "too deeply"),
        ('{"a": NaN}', "NaN"),
        ('{"a": ' + "9" * 5000 + "}", "digits"),
        (b"\xff", "codec"),
    ],
)
def test_json_that_readers_disagree_about_is_refused_by_name(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse_json(text)


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ('{"a":{"dtype":"F8_E4M3","shape":[1],"data_offsets":[0,1]}}', "F8_E4M3"),
        ('{"a":{"dtype":"F32"}}', "no reader"),
        ('{"a":{"dtype":"F32","shape":[0],"data_offsets":[0,0]},"a":{}}', "twice"),
        ('{"__metadata__":[]}', "no object"),
        ("[]", "no object"),
    ],
)
def test_a_tensor_files_header_is_looked_at_before_its_tensors(header: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        header_of(len(header).to_bytes(8, "little") + header.encode())
    with pytest.raises(ValueError, match="cut"):
        header_of(b"\xff" * 8)
