"""Commands killed at each step they take on the disk: old or new is there, and a repeat ends well."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from conftest import disc_picture, saved_generator
from retina_fm._io.scratch import is_scratch
from retina_fm.cli.main import main

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="kills children of this process")

KILLS = 20
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
_EVENTS = ("os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.truncate", "ctypes.dlsym", "fcntl.flock")


def events_of(place: Path, seen: Callable[[], None]) -> Callable[[str, tuple[Any, ...]], None]:
    """A hook that is told of all that changes files below a place, and of each file that is opened there."""

    def hook(event: str, given: tuple[Any, ...]) -> None:
        if event == "ctypes.dlsym" or event == "fcntl.flock":
            seen()
        elif event == "open" and (
            (isinstance(given[2], int) and given[2] & _WRITES) or "sync" in str(given[1])
        ):
            if str(place) in os.fsdecode(given[0] if not isinstance(given[0], int) else ""):
                seen()
        elif event in _EVENTS and str(place) in str(given[0]):
            seen()

    return hook


def in_child(work: Callable[[], object], place: Path, kill_at: int) -> int | None:
    """Do work in a child that kills itself at its n-th event; how many there were where it came to an end."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        count = 0

        def seen() -> None:
            nonlocal count
            count += 1
            if count == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)

        try:
            os.close(reader)
            with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):  # noqa: PTH123
                sys.addaudithook(events_of(place, seen))
                warnings.simplefilter("ignore")
                work()
            os.write(writer, str(count).encode())
        except BaseException as error:
            os.write(writer, f"failed: {type(error).__name__}: {error}".encode()[:2000])
        finally:
            os._exit(0)
    os.close(writer)
    _, status = os.waitpid(pid, 0)
    with os.fdopen(reader) as stream:
        said = stream.read()
    if os.WIFSIGNALED(status):
        return None
    assert said.isdigit(), said
    return int(said)


def campaign(
    work: Callable[[], object], home: Path, before: Callable[[], object], state: Callable[[], object]
) -> tuple[int, int]:
    """Kill work at many events.

    Args:
        work: to be killed.
        home: folder that it writes in.
        before: puts the folder into the state that work begins with.
        state: what a reader finds: raises or returns something else where half of it is there.

    Returns:
        Kills, and those after which neither the old nor the new state was found.
    """
    before()
    old = state()
    total = in_child(work, home, 0)
    assert total is not None
    new = state()
    kills = half = 0
    places = np.unique(np.linspace(1, total, max(KILLS, min(total, 60))).astype(int))
    places = [*places, *np.repeat(places, -(-KILLS // len(places)) - 1)]
    for place in places:
        before()
        if in_child(work, home, int(place)) is not None:
            continue
        kills += 1
        try:
            half += state() not in (old, new)
        except Exception as error:
            print(f"event {place} of {total}: {type(error).__name__}: {error}")
            half += 1
        assert in_child(work, home, 0) is not None  # a repeat goes on or begins again
        assert state() == new
        left = [path.name for path in home.rglob("*") if is_scratch(path.name) or ".old" in path.name]
        assert not left, f"event {place} of {total} left {left}"
    return kills, half


def clear(place: Path) -> None:
    import shutil

    if place.is_dir():
        shutil.rmtree(place)
    place.unlink(missing_ok=True)


@pytest.fixture(scope="module")
def clinic(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    torch.set_num_threads(1)  # a child of a process with threads could wait for ever
    root = tmp_path_factory.mktemp("clinic")
    for number in range(3):
        for part in ("images", "masks"):
            (root / part).mkdir(exist_ok=True)
        Image.fromarray(disc_picture(number, 96)).save(root / "images" / f"eye{number}.png")
        mask = np.zeros((96, 96), np.uint8)
        mask[30:60, 30:60] = 255
        Image.fromarray(mask).save(root / "masks" / f"eye{number}.png")
    saved_generator(root / "model")
    yield root
    torch.set_num_threads(2)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["frames", "video.gif", "sheet.png"])
@pytest.mark.parametrize("there", [False, True])
def test_generate(name: str, there: bool, clinic: Path, tmp_path: Path) -> None:
    out = tmp_path / "out" / name
    command = ["generate", str(clinic / "images" / "eye0.png"), "--model", str(clinic / "model")]

    def before() -> None:
        clear(tmp_path / "out")
        (tmp_path / "out").mkdir()
        if there:
            from retina_fm.models.generation import generate

            generate(str(clinic / "images" / "eye1.png"), str(clinic / "model")).save(out)

    def state() -> object:
        paths = sorted(out.rglob("*")) if out.is_dir() else [out] if out.exists() else []
        return [(path.name, path.read_bytes()) for path in paths]

    work = partial(main, [*command, "--out", str(out)])
    kills, half = campaign(work, tmp_path / "out", before, state)
    print(f"generate {name} {there}: {kills} kills, {half} half")
    assert kills >= KILLS and half == 0


@pytest.mark.slow
@pytest.mark.parametrize("there", [False, True])
def test_adapt_segmentation(there: bool, clinic: Path, tmp_path: Path) -> None:
    from retina_fm import adapters

    out = tmp_path / "out" / "adapter"

    def adapt(steps: int) -> int:
        return main([
            "adapt", "segmentation", "--images", str(clinic / "images"), "--masks", str(clinic / "masks"),
            "--shots", "1", "--steps", str(steps), "--model", "fundus2video-tiny", "--out", str(out),
        ])  # fmt: skip

    def before() -> None:
        clear(tmp_path / "out")
        (tmp_path / "out").mkdir()
        if there:
            in_child(lambda: adapt(2), tmp_path, 0)

    def state() -> object:
        if not out.exists():
            return None
        fitted = adapters.load(out)
        return sorted(path.name for path in out.iterdir()), [
            float(value.double().sum()) for value in fitted.module_.state_dict().values()
        ]

    kills, half = campaign(lambda: adapt(1), tmp_path / "out", before, state)
    print(f"adapt segmentation {there}: {kills} kills, {half} half")
    assert kills >= KILLS and half == 0


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from run_crude import crude_preset

    from retina_fm.network import Generator
    from retina_fm.training import draw_retina, prepare_drawn
    from retina_fm.training.pretraining import checkpoints

    home = tmp_path_factory.mktemp("run")
    for number in range(2):
        prepare_drawn(draw_retina(number, 96, lesions={})).save(home / "eyes" / f"{number}.eye.safetensors")
    preset = crude_preset()
    for number in range(2):  # two runs, so that one export can take the place of another's
        with torch.random.fork_rng():
            torch.manual_seed(number)
            generator = Generator(preset.architecture).state_dict()
        about = {"preset": preset.model_dump(mode="json"), "seed": number, "data": [str(home / "eyes")]}
        checkpoints.write_run_file(home / f"run{number}", about)
        state = {"step": 1, "samples": 2, "minutes": 0.1}
        checkpoints.save_checkpoint(home / f"run{number}", 1, {"generator": generator}, state)
    return home


@pytest.mark.slow
@pytest.mark.parametrize("there", [False, True])
def test_export(there: bool, run: Path, clinic: Path, tmp_path: Path) -> None:
    from retina_fm.models import load
    from retina_fm.training.pretraining.export import export

    out = tmp_path / "out" / "weights"

    def before() -> None:
        clear(tmp_path / "out")
        (tmp_path / "out").mkdir()
        if there:
            export(run / "run1", out, sources=False)

    def state() -> object:
        if not out.exists():
            return None
        encoder = load(str(out))
        assert encoder.whitening is not None
        return encoder.weights_sha256, float(encoder.whitening.gains.sum()), (out / "sources.csv").exists()

    kills, half = campaign(lambda: export(run / "run0", out), tmp_path / "out", before, state)
    print(f"export {there}: {kills} kills, {half} half")
    assert kills >= KILLS and half == 0


@pytest.mark.slow
def test_encode(clinic: Path, tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    out = tmp_path / "out" / "emb[1].parquet"
    command = ["encode", str(clinic / "images"), "--model", "fundus2video-tiny", "--workers", "0"]

    def before() -> None:
        clear(tmp_path / "out")
        (tmp_path / "out").mkdir()

    def state() -> object:
        return pq.read_table(out).to_pydict() if out.exists() else None

    kills, half = campaign(lambda: main([*command, "--out", str(out)]), tmp_path / "out", before, state)
    print(f"encode: {kills} kills, {half} half")
    assert kills >= KILLS and half == 0


@pytest.mark.slow
def test_prepare_and_simulate(run: Path, clinic: Path, tmp_path: Path) -> None:
    from retina_fm.training.pairs.table import read_pairs
    from retina_fm.training.simulator.simulate import simulate

    out = tmp_path / "out" / "pairs"
    eye = run / "eyes" / "0.eye.safetensors"

    def before() -> None:
        clear(tmp_path / "out")
        (tmp_path / "out").mkdir()

    def state() -> object:
        if not (out / "pairs.csv").exists():
            return None
        return [(one.name, one.photo.read_bytes()) for one in read_pairs(out)]

    work = partial(simulate, out, eyes=[eye], animate=False, workers=1, progress=False)
    kills, half = campaign(work, tmp_path / "out", before, state)
    print(f"simulate: {kills} kills, {half} half")
    assert kills >= KILLS and half == 0


@pytest.mark.slow
def test_predict(clinic: Path, tmp_path: Path) -> None:
    out = tmp_path / "out" / "masks"

    def before() -> None:
        clear(tmp_path / "out")
        (tmp_path / "out").mkdir()

    def state() -> object:
        masks = sorted(out.glob("*.png"))
        for path in masks:
            with Image.open(path) as picture:
                picture.load()
            assert (out / "overlays" / path.name).is_file()
        return len(masks) in (0, 1)

    command = ["predict", "vessels", str(clinic / "images" / "eye0.png"), "--model", str(clinic / "model")]
    kills, half = campaign(lambda: main([*command, "--out", str(out)]), tmp_path / "out", before, state)
    print(f"predict: {kills} kills, {half} half")
    assert kills >= KILLS and half == 0
