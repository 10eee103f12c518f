"""A thousand flipped bits, one at a time, over every kind of file of ours: none is read as something else."""

from __future__ import annotations

import hashlib
import os
import shutil
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from conftest import disc_picture, saved_generator
from retina_fm import adapters
from retina_fm.errors import RetinaError

FLIPS = 75  # of each kind
Reader = Callable[[Path], object]


def spelt(value: Any) -> object:
    """A value that can be compared, arrays and tensors as their bytes."""
    if isinstance(value, torch.Tensor):
        value = (
            value.detach().contiguous().view(-1).view(torch.uint8).numpy() if value.numel() else value.numpy()
        )
    if isinstance(value, np.ndarray):
        return hashlib.sha256(value.tobytes()).hexdigest(), value.dtype, value.shape
    if isinstance(value, dict):
        return {key: spelt(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [spelt(item) for item in value]
    return value


def read_weights(folder: Path) -> object:
    from retina_fm.models import load

    encoder = load(str(folder))
    whitening = encoder.whitening
    assert whitening is not None
    known = [encoder.name, encoder.transform.as_dict(), encoder.card.model_dump(), encoder.weights_sha256]
    return spelt([known, dict(encoder.state_dict()), whitening.mean, whitening.directions, whitening.gains])


def read_adapter(folder: Path) -> object:
    found = adapters.load(folder)
    arrays, state = found.state()
    return spelt([dict(arrays), state, found.drawn_, found.saved_settings()])


def read_checkpoint(run: Path) -> object:
    from retina_fm.training.pretraining import checkpoints

    found = checkpoints.load_checkpoint(checkpoints.list_checkpoints(run)[-1])
    return spelt([found.tensors, found.state, checkpoints.read_run_file(run)])


def read_eye(folder: Path) -> object:
    from retina_fm.training.simulator.eyes.prepared import eye_metadata, knows_all_lesions, load_eye

    path = folder / "a.eye.safetensors"
    return spelt([dict(vars(load_eye(path))), eye_metadata(path), knows_all_lesions(path)])


def read_eye_header(folder: Path) -> object:
    """The doors that leave the maps unread; what they do not read may be damaged."""
    from retina_fm.training.simulator.eyes.prepared import eye_metadata, eye_size, knows_all_lesions

    path = folder / "a.eye.safetensors"
    return [eye_metadata(path), knows_all_lesions(path), eye_size(path)]


def read_embeddings(folder: Path) -> object:
    from retina_fm.indexes.opening import made_by, read_table

    table, more = read_table(folder / "emb.parquet", folder, plain=True)
    return spelt([table.values, table.names, table.files, more, made_by(folder / "emb.parquet")])


def read_evaluation_table(folder: Path) -> object:
    from retina_fm.evaluation.contenders import Table

    return Table("t", [folder / "emb.parquet"]).identity()


def read_cells(folder: Path) -> object:
    from retina_fm.evaluation.cells import CellStore

    cell = CellStore(folder).get("cell")
    if cell is None:
        raise ValueError("made again")
    return spelt([cell.figures, cell.extra, [list(vars(one).values()) for one in cell.outcomes]])


def read_key(folder: Path) -> object:
    from retina_fm.evaluation.ratings import assess

    return assess([folder / "ratings-a.csv"], folder / "key.json")


def read_pairs_table(folder: Path) -> object:
    from retina_fm.training.pairs.table import read_pairs

    return [repr(one) for one in read_pairs(folder)]


def read_manifest_table(folder: Path) -> object:
    from retina_fm._io.tables import read_csv

    return read_csv(folder / "manifest.csv")


def read_record(folder: Path) -> object:
    from retina_fm.training.simulator.simulate import _record

    found = _record(folder)
    if found is None:
        raise ValueError("made again")
    return found


def read_cache(folder: Path) -> object:
    from retina_fm.encoding.photo_embedder import _read

    found = _read(next(folder.rglob("*.npy")), 64)
    if found is None:
        raise ValueError("made again")
    return spelt(found)


def read_index(folder: Path) -> object:
    from retina_fm.indexes import ImageIndex

    opened = ImageIndex.open(folder)
    query = np.arange(8, dtype=np.float32)
    return [(hit.path, hit.score, dict(hit.metadata)) for hit in opened.search(query, k=4)]


READERS: dict[str, tuple[Reader, str]] = {
    "weights": (read_weights, "*"),
    "adapter": (read_adapter, "adapter.*"),
    "checkpoint": (read_checkpoint, "*"),
    "eye": (read_eye, "*"),
    "eye header": (read_eye_header, "*"),
    "embeddings": (read_embeddings, "*.parquet"),
    "embeddings, evaluated": (read_evaluation_table, "*.parquet"),
    "cells": (read_cells, "*"),
    "key of ratings": (read_key, "key.json"),
    "pairs": (read_pairs_table, "pairs.csv"),
    "manifest": (read_manifest_table, "manifest.csv"),
    "sequence": (read_record, "sequence.json"),
    "cache of embeddings": (read_cache, "*.npy"),
    "index": (read_index, "*"),
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Path]]:
    """One folder of each kind."""
    import retina_fm
    from retina_fm.encoding.photo_embedder import Embedder
    from retina_fm.evaluation.cells import Cell, CellStore
    from retina_fm.evaluation.manifest import write_manifest
    from retina_fm.evaluation.outcomes import Outcome
    from retina_fm.evaluation.ratings import write_sheet
    from retina_fm.models.whitening import fit_whitening, save_whitening
    from retina_fm.training import draw_retina, prepare_drawn
    from retina_fm.training.pretraining import checkpoints
    from retina_fm.training.simulator.simulate import simulate

    home = tmp_path_factory.mktemp("files")
    random = np.random.Generator(np.random.PCG64(0))
    found = {name: home / name.replace(" ", "-").replace(",", "") for name in READERS}
    saved_generator(found["weights"])
    save_whitening(found["weights"], fit_whitening(random.normal(size=(40, 16)).astype(np.float32)))
    photos = home / "photos"
    photos.mkdir()
    for number in range(6):
        Image.fromarray(disc_picture(number, 64)).save(photos / f"eye{number}.png")
    fitted = adapters.adapt("classification", model="fundus2video-tiny", head="linear")
    paths = sorted(photos.iterdir())
    fitted.fit(paths, [0, 1, 0, 1, 0, 1]).save(found["adapter"])
    tensors = {name: {"w": torch.randn(50)} for name in ("generator", "average", "optimiser")}
    checkpoints.save_checkpoint(found["checkpoint"], 3, tensors, {"step": 3, "best": float("nan")})
    checkpoints.write_run_file(found["checkpoint"], {"preset": {"a": 1}, "seed": 0, "data": ["x"]})
    for name in ("eye", "eye header"):
        prepare_drawn(draw_retina(1, 96, lesions={})).save(found[name] / "a.eye.safetensors")
    for name in ("embeddings", "embeddings, evaluated"):
        found[name].mkdir()
        retina_fm.encode_to(paths, found[name] / "emb.parquet", "fundus2video-tiny", workers=0)
    outcome = Outcome(0, np.arange(5), random.random((5, 2)), {"train": np.arange(3)}, ())
    CellStore(found["cells"]).put("cell", Cell({"auroc": {"mean": 0.5}}, [outcome], {"x": [1.5]}))
    picture = np.zeros((32, 32, 3), np.uint8)
    frames = np.zeros((12, 32, 32), np.uint8)
    write_sheet({(name, "s"): (picture, frames, frames) for name in ("a", "b")}, found["key of ratings"])
    from retina_fm._io.strict_json import read_json

    codes = list(read_json(found["key of ratings"] / "key.json"))
    scores = "item,score\n" + "".join(f"{code},{k + 1}\n" for k, code in enumerate(codes))
    (found["key of ratings"] / "ratings-a.csv").write_text(scores)
    simulate(found["pairs"], drawn=1, size=96, animate=False, workers=1, progress=False)
    shutil.copytree(found["pairs"] / "drawn-0", found["sequence"])
    found["manifest"].mkdir()
    write_manifest(found["manifest"] / "manifest.csv", [{"path": "a.png", "label": "1"}] * 9)
    Embedder("fundus2video-tiny", cache=found["cache of embeddings"]).fit_transform(paths[:1])
    vectors = random.normal(size=(30, 8)).astype(np.float32)
    about = [{"age": int(age)} for age in random.integers(20, 90, 30)]
    retina_fm.index(vectors, store=found["index"], metadata=about)
    yield found


@pytest.mark.slow
@pytest.mark.parametrize("kind", READERS)
def test_no_flipped_bit_is_read_as_something_else(kind: str, made: dict[str, Path]) -> None:
    read, pattern = READERS[kind]
    random = np.random.Generator(np.random.PCG64(1))
    files = [path for path in sorted(made[kind].rglob(pattern)) if path.is_file() and path.stat().st_size]
    files = [path for path in files if path.name not in (".retina-fm", ".lock")]
    seen = same = 0
    silent: list[str] = []
    raw: list[str] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        truth = read(made[kind])
        for flip in range(FLIPS):
            path = files[flip % len(files)]
            whole, status = path.read_bytes(), path.stat()
            data = bytearray(whole)
            end = 8 + int.from_bytes(data[:8], "little") if kind == "eye header" else len(data)
            bit = int(random.integers(8 * end))
            data[bit // 8] ^= 1 << (bit % 8)
            path.write_bytes(data)
            os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))  # a disk does not say when
            where = f"{path.name} bit {bit} of {8 * len(data)}"
            try:
                if read(made[kind]) == truth:
                    same += 1
                else:
                    silent.append(where)
            except (RetinaError, ValueError):
                seen += 1
            except Exception as error:
                raw.append(f"{where}: {type(error).__name__}: {error}")
            path.write_bytes(whole)
            os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    print(f"{kind}: {FLIPS} flips, {seen} seen, {same} read the same, {len(silent)} silent, {len(raw)} raw")
    assert silent == [] and raw == []


def test_there_are_a_thousand_flips() -> None:
    assert FLIPS * len(READERS) >= 1000
