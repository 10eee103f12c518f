"""Ray on this machine: the same table as one process writes, whatever dies on the way."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

import retina_fm
from conftest import disc_picture
from retina_fm.errors import PictureError, SkippedPictures

ray: Any = pytest.importorskip("ray", reason="Ray is not installed (extra ray)")
psutil: Any = pytest.importorskip("psutil")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings(
        "ignore::ResourceWarning", "ignore::DeprecationWarning", "ignore::FutureWarning"
    ),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
TINY = "fundus2video-tiny"
STORE = 100 << 20
HEAD, WORKER = "127.0.0.2", "127.0.0.3"  # loopback; Ray takes 127.0.0.1 for the address of the network
ROOT = str(Path(retina_fm.__file__).resolve().parent.parent)


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """Two processors and a small object store, ended whatever happens."""
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = ROOT  # what workers import
    ray.init(
        address="local", num_cpus=2, object_store_memory=STORE, include_dashboard=False, log_to_driver=False
    )
    try:
        yield
    finally:
        ray.shutdown()
        os.environ.pop("PYTHONPATH") if before is None else os.environ.update(PYTHONPATH=before)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ray") / "photos"
    folder.mkdir()
    for number in range(37):
        Image.fromarray(disc_picture(number, 64)).save(folder / f"eye{number}.png")
    return folder


def encode(
    photos: object, out: Path, model: str = TINY, **settings: object
) -> retina_fm.encoding.EncodeReport:
    from retina_fm.distributed import encode as spread

    return spread(photos, out, model, **{"dtype": "float32", "num_actors": 2, "progress": False, **settings})  # type: ignore[arg-type]


def vectors(path: Path) -> np.ndarray:
    return np.array(pq.read_table(path).column("embedding").to_pylist(), np.float32)


def test_two_actors_write_the_table_of_one_process(cluster: None, photos: Path, tmp_path: Path) -> None:
    report = encode(photos, tmp_path / "ray.parquet")
    assert (report.rows, report.reused) == (37, 0) and "2 actors" in report.precision
    retina_fm.encode_to(photos, tmp_path / "one.parquet", TINY, dtype="float32", workers=0)
    assert (tmp_path / "ray.parquet").read_bytes() == (tmp_path / "one.parquet").read_bytes()
    expected = retina_fm.encode(photos, TINY, dtype="float32", workers=0)
    assert np.array_equal(vectors(tmp_path / "ray.parquet"), expected), "to the bit"
    assert encode(photos, tmp_path / "ray.parquet").reused == 37


def test_bfloat16_stays_near(cluster: None, photos: Path, tmp_path: Path) -> None:
    encode(photos, tmp_path / "ray.parquet", dtype="bfloat16")
    expected = retina_fm.encode(photos, TINY, dtype="bfloat16", workers=0)
    found = vectors(tmp_path / "ray.parquet")
    assert np.abs(found - expected).max() <= 1e-3 * np.abs(expected).max()


def workers_below(name: str) -> list[Any]:
    """Processes of actors of this test's own cluster."""
    found = []
    for process in psutil.process_iter(["cmdline", "environ"]):
        words = " ".join(process.info["cmdline"] or [])
        mine = (process.info["environ"] or {}).get("PYTHONPATH") == ROOT
        if mine and words.startswith("ray::") and name in words:
            found.append(process)
    return found


def test_an_actor_that_is_killed_is_replaced_and_no_row_is_lost(
    cluster: None, photos: Path, tmp_path: Path
) -> None:
    many = tmp_path / "many"
    many.mkdir()
    for number in range(600):
        shutil.copy(photos / f"eye{number % 37}.png", many / f"{number}.png")
    out, killed = tmp_path / "ray.parquet", []

    def kill() -> None:
        while not list(tmp_path.glob(".ray.parquet.*.parts/*.parquet")):
            time.sleep(0.02)
        for process in workers_below("EmbeddingActor")[:1]:
            process.send_signal(signal.SIGKILL)
            killed.append((process.pid, len(list(tmp_path.glob(".ray.parquet.*.parts/*")))))

    thread = threading.Thread(target=kill, daemon=True)
    thread.start()
    report = encode(many, out, batch_size=2)
    thread.join(5)
    assert killed, "the run must still be going when an actor dies"
    assert report.rows == 600 and report.reused == 0
    names = pq.read_table(out).column("path").to_pylist()
    assert len(set(names)) == 600
    expected = vectors_of(photos)
    numbers = [int(Path(name).stem) % 37 for name in names]
    assert np.allclose(vectors(out), expected[numbers], atol=1e-4)


def vectors_of(photos: Path) -> np.ndarray:
    """By the photo's number."""
    return retina_fm.encode([photos / f"eye{n}.png" for n in range(37)], TINY, dtype="float32", workers=0)


def test_a_bad_photo_stops_and_the_same_call_goes_on(cluster: None, photos: Path, tmp_path: Path) -> None:
    mine = shutil.copytree(photos, tmp_path / "mine")
    (mine / "eye30.png").write_bytes(b"nonsense")
    out = tmp_path / "ray.parquet"
    with pytest.raises(PictureError, match="eye30"):
        encode(mine, out)
    assert not out.exists()
    with pytest.warns(SkippedPictures, match="eye30"):
        report = encode(mine, out, on_error="skip")
    assert report.rows == 36 and report.skipped[0][0].endswith("eye30.png")
    shutil.copy(photos / "eye30.png", mine)
    report = encode(mine, out)
    assert (report.rows, report.reused) == (37, 36)


def test_photos_in_parquet_files_and_behind_urls(cluster: None, photos: Path, tmp_path: Path) -> None:
    files = sorted(photos.glob("*.png"))[:10]
    rows = pa.table({"path": [file.name for file in files], "image": [file.read_bytes() for file in files]})
    pq.write_table(rows, tmp_path / "photos.parquet", row_group_size=4)
    expected = retina_fm.encode(files, TINY, dtype="float32", workers=0)
    out = tmp_path / "parquet.parquet"
    assert encode(tmp_path / "photos.parquet", out).rows == 10
    assert np.array_equal(vectors(out), expected)
    assert pq.read_table(out).column("path").to_pylist() == [file.name for file in files]
    assert encode(str(tmp_path / "photos.parquet"), out).reused == 10
    assert encode(f"file://{tmp_path}/photos.parquet", tmp_path / "url.parquet").rows == 10
    report = encode(f"file://{photos}", tmp_path / "folder.parquet")
    assert report.rows == 37
    first = pq.read_table(tmp_path / "folder.parquet").slice(0, 1).to_pylist()[0]
    assert first["path"] == f"file://{photos}/eye0.png" and first["file_mtime_ns"] > 0
    assert encode(f"file://{photos}/eye1*.png", tmp_path / "folder.parquet").rows == 11
    assert encode([photos / "eye1.png", files[0].read_bytes()], tmp_path / "list.parquet").rows == 2


def test_a_shard_and_signatures(cluster: None, photos: Path, tmp_path: Path) -> None:
    for number in (1, 2):
        encode(photos, tmp_path / f"part-{number}.parquet", shard=(number, 2), batch_size=1)
    assert retina_fm.merge([tmp_path / "part-*.parquet"], tmp_path / "all.parquet").rows == 37
    few = sorted(photos.glob("*.png"))[:3]
    encode(few, tmp_path / "signed.parquet", signature=True, num_actors=1, batch_size=4)
    retina_fm.encode_to(few, tmp_path / "one.parquet", TINY, dtype="float32", workers=0, signature=True)
    assert (tmp_path / "signed.parquet").read_bytes() == (tmp_path / "one.parquet").read_bytes()


def free_port() -> int:
    with socket.socket() as one:
        one.bind((HEAD, 0))
        return int(one.getsockname()[1])


def wait_for(port: int) -> None:
    """Until the head listens."""
    until = time.monotonic() + 90
    while time.monotonic() < until:
        with socket.socket() as one:
            if one.connect_ex((HEAD, port)) == 0:
                return
        time.sleep(0.5)
    raise TimeoutError(f"nothing listens at {HEAD}:{port}")


def test_a_head_and_a_worker_as_two_processes(photos: Path, tmp_path: Path) -> None:
    if ray.is_initialized():
        ray.shutdown()
    port = free_port()
    environment = {**os.environ, "PYTHONPATH": ROOT, "RAY_AUTH_MODE": "disabled"}  # on loopback
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--num-cpus", "1"]
    store = ["--object-store-memory", str(STORE), "--disable-usage-stats"]
    head = ["--head", "--node-ip-address", HEAD, "--port", str(port), "--include-dashboard", "false"]
    started: list[Any] = []
    try:
        for rest in (head, ["--address", f"{HEAD}:{port}", "--node-ip-address", WORKER]):
            started.append(
                subprocess.Popen(
                    [*command, *store, *rest],
                    env=environment,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    start_new_session=True,
                )
            )
            wait_for(port)
        ray.init(address=f"{HEAD}:{port}", _node_ip_address=HEAD, log_to_driver=False)
        waited = time.monotonic() + 60
        while sum(node["Alive"] for node in ray.nodes()) < 2 and time.monotonic() < waited:
            time.sleep(0.5)
        assert sum(node["Alive"] for node in ray.nodes()) == 2
        report = encode(photos, tmp_path / "ray.parquet", num_actors=None)
        assert report.rows == 37 and "2 actors" in report.precision, "one a machine"
        assert np.array_equal(
            vectors(tmp_path / "ray.parquet"), retina_fm.encode(photos, TINY, dtype="float32")
        )
    finally:
        ray.shutdown()
        heads = [psutil.Process(one.pid) for one in started]
        ours = [*heads, *(below for one in heads for below in one.children(recursive=True))]
        for one in reversed(started):  # a head waits for its workers
            one.terminate()
        _, left = psutil.wait_procs(ours, 20)
        for process in left:
            process.kill()
        for one in started:
            one.wait(30)
