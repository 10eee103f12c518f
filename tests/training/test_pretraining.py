"""The loop: it learns, resumes exactly, survives a kill, and says what is wrong."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from crude_stream import CrudeStream
from run_crude import crude_preset
from safetensors.torch import load_file

from retina_fm.errors import ConfigError, OutputError
from retina_fm.training import checkpoints
from retina_fm.training.presets import with_settings
from retina_fm.training.pretraining import pretrain
from retina_fm.training.run_settings import Limits, Machine

TESTS = Path(__file__).parents[1]
CPU = Machine(device="cpu", precision="float32")


def go(out, steps, *, stream=None, preset=None, resume=False, machine=CPU, **limits):
    return pretrain(
        stream or CrudeStream(),
        out,
        preset or crude_preset(),
        limits=Limits(max_steps=steps, **limits),
        machine=machine,
        resume=resume,
        tensorboard=False,
    )


def tensors_of(run: Path):
    last = checkpoints.list_checkpoints(run)[-1]
    return {
        (file.stem, key): value
        for file in last.glob("*.safetensors")
        for key, value in load_file(file).items()
    }


def assert_same(first: Path, second: Path):
    one, two = tensors_of(first), tensors_of(second)
    assert one.keys() == two.keys()
    differing = [key for key in one if not torch.equal(one[key], two[key])]
    assert not differing, differing[:5]


def test_six_and_then_twelve_steps_equal_twelve_to_the_bit(tmp_path):
    whole = go(tmp_path / "whole", 12)
    first = go(tmp_path / "parts", 6)
    second = go(tmp_path / "parts", 12, resume=True)
    assert (first.step, second.step, whole.step) == (6, 12, 12)
    assert first.losses + second.losses == whole.losses
    assert {name for name, _ in tensors_of(tmp_path / "whole")} == {
        "generator", "heads", "average", "discriminators", "optimiser", "judge_optimiser"
    }  # fmt: skip
    assert_same(tmp_path / "whole", tmp_path / "parts")


def test_a_killed_run_continues_from_its_last_checkpoint_and_ends_the_same(tmp_path):
    environment = {**os.environ, "PYTHONPATH": f"{TESTS.parent}{os.pathsep}{TESTS}", "OMP_NUM_THREADS": "1"}
    command = [
        sys.executable,
        str(TESTS / "run_crude.py"),
        str(tmp_path / "killed"),
        "12",
        "2",
        "1",
        "3",
        "0.2",
    ]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 90
    while not checkpoints.list_checkpoints(tmp_path / "killed") and time.monotonic() < deadline:
        assert process.poll() is None, process.stderr.read().decode()[-2000:]
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stderr.close()
    saved = checkpoints.list_checkpoints(tmp_path / "killed")
    assert saved
    assert saved[-1].name < "step-00000012"
    torch.set_num_threads(1)
    go(tmp_path / "killed", 12, resume=True)
    go(tmp_path / "whole", 12)
    assert_same(tmp_path / "killed", tmp_path / "whole")


def test_drawing_ahead_changes_nothing(tmp_path):
    go(tmp_path / "ahead", 4)
    go(tmp_path / "now", 4, machine=Machine(device="cpu", precision="float32", ahead=0))
    assert_same(tmp_path / "ahead", tmp_path / "now")


def test_two_accumulated_batches_are_one_step(tmp_path):
    report = go(tmp_path / "run", 3, preset=crude_preset(accumulation=2))
    assert report.samples == 3 * 2 * 2


def test_the_last_checkpoints_are_kept(tmp_path):
    go(tmp_path / "run", 9, save_steps=2, keep=3)
    assert [path.name[-2:] for path in checkpoints.list_checkpoints(tmp_path / "run")] == ["06", "08", "09"]


def test_terms_fall_and_each_is_logged(tmp_path):
    preset = with_settings(crude_preset(batch=4, steps=60), {"curriculum.adversarial_from": 2.0})
    go(tmp_path / "run", 60, stream=CrudeStream(batch=4, eyes=2), preset=preset, log_steps=5)
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    for term in ("reconstruction", "correlation", "lesions", "attention"):
        first, last = (sum(line[term] for line in part) / 4 for part in (lines[:4], lines[-4:]))
        assert last < 0.8 * first, (term, first, last)
    text = (tmp_path / "run" / "log.txt").read_text()
    assert "step 60/60 (100 %)" in text
    assert "samples/s" in text


def test_adversarial_terms_wait_for_the_warm_start(tmp_path):
    preset = with_settings(crude_preset(steps=10), {"curriculum.adversarial_from": 0.5})
    go(tmp_path / "run", 10, preset=preset, log_steps=1)
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert ["adversarial" in line for line in lines] == [False] * 5 + [True] * 5
    assert all("discriminator" in line and "patch_nce" in line for line in lines[5:])


def test_bfloat16_trains_too(tmp_path):
    report = go(tmp_path / "run", 3, machine=Machine(device="cpu", precision="bfloat16"))
    assert all(torch.isfinite(torch.tensor(report.losses)))


def test_samples_without_lesion_maps_train(tmp_path):
    assert go(tmp_path / "run", 2, stream=CrudeStream(with_lesions=False)).step == 2


def test_another_preset_is_refused_on_resume_and_named(tmp_path):
    go(tmp_path / "run", 2)
    changed = with_settings(crude_preset(), {"weights.lesions": 0.5})
    with pytest.raises(OutputError, match="weights"):
        go(tmp_path / "run", 4, preset=changed, resume=True)


def test_a_run_that_another_process_trains_is_refused(tmp_path):
    (tmp_path / "run").mkdir()
    lock = tmp_path / "run" / ".lock"
    held = subprocess.Popen(
        [
            sys.executable,
            "-c",
            f"from filelock import FileLock\nl = FileLock({str(lock)!r})\nl.acquire()\ninput()",
        ],
        stdin=subprocess.PIPE,
    )
    try:
        deadline = time.monotonic() + 30
        while not lock.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(0.2)
        with pytest.raises(OutputError, match="Another process trains"):
            go(tmp_path / "run", 2, resume=True)
    finally:
        held.kill()
        held.communicate()
    assert go(tmp_path / "run", 2, resume=True).step == 2
    assert go(tmp_path / "run", 4, resume=True).step == 4


def test_a_folder_with_a_run_needs_resume(tmp_path):
    go(tmp_path / "run", 1)
    with pytest.raises(OutputError, match="--resume"):
        go(tmp_path / "run", 2)


def test_a_gradient_that_is_not_finite_stops_names_the_batch_and_keeps_the_checkpoint(tmp_path):
    with pytest.raises(OutputError, match=r"batch 5: .*reconstruction nan"):
        go(tmp_path / "run", 9, stream=CrudeStream(broken=5), save_steps=2)
    last = checkpoints.list_checkpoints(tmp_path / "run")[-1]
    assert last.name == "step-00000004"
    assert all(torch.isfinite(value).all() for value in tensors_of(tmp_path / "run").values())


def test_a_full_disk_leaves_the_old_checkpoint_intact(tmp_path, monkeypatch):
    go(tmp_path / "run", 2)
    before = tensors_of(tmp_path / "run")

    def full(path, data):
        path.write_bytes(data[:10])
        raise OSError(errno.ENOSPC, "No space left on device")

    with (
        monkeypatch.context() as patch,
        pytest.raises(OutputError, match=r"disk is full.*step-00000002 is intact"),
    ):
        patch.setattr(checkpoints, "_write", full)
        go(tmp_path / "run", 4, resume=True)
    after = tensors_of(tmp_path / "run")
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert go(tmp_path / "run", 4, resume=True).step == 4


def test_full_memory_names_the_setting_to_lower(tmp_path, monkeypatch):
    def full(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("retina_fm.training.learner.Learner.forward", full)
    with pytest.raises(OutputError, match=r"--batch .*--crop"):
        go(tmp_path / "run", 1)


def test_a_stream_of_another_batch_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="batches of 3"):
        go(tmp_path / "run", 1, stream=CrudeStream(batch=3))


def test_minutes_end_a_run_with_a_checkpoint(tmp_path):
    report = go(tmp_path / "run", None, max_minutes=0.01)
    assert report.stopped == "minutes"
    assert report.checkpoint is not None


def test_a_schedule_in_minutes_ends_by_itself(tmp_path):
    assert go(tmp_path / "run", None, schedule_minutes=0.02).stopped == "schedule"
