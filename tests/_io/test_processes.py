"""Workers know what the caller told Pillow, die without ending the run, and are started where they may."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image, ImageFile

from retina_fm._io import jobs, processes
from retina_fm._io.processes import may_start_workers, pillow_settings, start_workers
from retina_fm.encoding.decoding import _Pools, decoded
from retina_fm.errors import WorkerError
from retina_fm.pictures import Transform


class MineImageFile(ImageFile.ImageFile):
    """A format that a plugin adds."""

    format = "MINE"

    def _open(self) -> None:
        raise NotImplementedError


@pytest.fixture
def told() -> Iterator[None]:
    before = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = 12_345
    Image.register_open("MINE", MineImageFile, lambda head: head[:4] == b"MINE")
    yield
    Image.MAX_IMAGE_PIXELS = before
    Image.OPEN.pop("MINE")
    Image.ID.remove("MINE")


def _seen() -> tuple[int | None, bool]:
    return Image.MAX_IMAGE_PIXELS, "MINE" in Image.OPEN


@pytest.mark.usefixtures("told")
def test_the_limit_of_pixels_and_plugins_reach_the_workers() -> None:
    assert [name for name, *_ in pillow_settings().openers] == ["MINE"]
    with start_workers(1) as pool:
        assert pool.submit(_seen).result() == (12_345, True)


def _die_once(place: str) -> str:
    if place.endswith("!"):
        try:
            os.close(os.open(place, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return place
        os._exit(1)
    return place


def _die(_: str) -> None:
    os._exit(1)


@pytest.mark.slow
def test_a_job_whose_worker_was_killed_is_done_again(tmp_path: Path) -> None:
    names = [str(tmp_path / name) for name in ("a", "b!", "c", "d")]
    done = jobs.work_through(_die_once, names, workers=2, note="try", unit="name", progress=False)
    assert list(done) == [(name, name) for name in names]


@pytest.mark.slow
def test_a_job_that_kills_every_worker_is_named_with_what_to_do() -> None:
    done = jobs.work_through(_die, ["deadly", "x"], workers=2, note="prepare", unit="eye", progress=False)
    with pytest.raises(WorkerError, match=r"prepare: .*'deadly' was ended, twice.*fewer workers"):
        list(done)


def test_a_worker_killed_between_two_photos_costs_nothing(photo_folder: Path) -> None:
    paths = [str(photo_folder / f"eye{n}.png") for n in (1, 2, 3)]
    with _Pools(1, Transform(size=64)) as pools:
        assert pools.submit(0, paths[0]).future.result().view is not None
        assert pools.processes is not None
        broken = pools.processes.submit(os._exit, 1)
        assert isinstance(broken.exception(), Exception)
        assert pools.submit(1, paths[1]).future.result().view is not None


def test_in_a_daemonic_process_a_thread_serves(photo_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(multiprocessing.current_process()._config, "daemon", True)  # type: ignore[attr-defined]
    assert not may_start_workers()
    monkeypatch.setattr(processes, "start_workers", None)
    photos = enumerate([str(photo_folder / "eye1.png")])
    assert next(decoded(photos, Transform(size=64), workers=2, ahead=2)).view is not None
    assert list(jobs.work_through(abs, [-1, -2], workers=2, note="", unit="", progress=False)) == [
        (-1, 1),
        (-2, 2),
    ]
