"""The loop: it learns, resumes exactly, survives a kill, and says what is wrong."""

from __future__ import annotations

import dataclasses
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
from PIL import Image
from run_crude import crude_preset
from safetensors.torch import load_file

from retina_fm.errors import ConfigError, OutputError
from retina_fm.network.layers import TRUNK_LAYERS
from retina_fm.training.pretraining import checkpoints, presets
from retina_fm.training.pretraining.data.streams import pass_order
from retina_fm.training.pretraining.loop import _Run
from retina_fm.training.pretraining.losses import terms as losses
from retina_fm.training.pretraining.presets import with_settings
from retina_fm.training.pretraining.pretrain import pretrain
from retina_fm.training.pretraining.run_log import RunLog
from retina_fm.training.pretraining.run_settings import Limits, Machine
from retina_fm.training.pretraining.run_state import renumbered

TESTS = Path(__file__).parents[2]
CPU = Machine(device="cpu", precision="float32")


def go(out, steps, *, stream=None, preset=None, resume=False, machine=CPU, validate=None, **limits):
    return pretrain(
        stream or CrudeStream(),
        out,
        preset or crude_preset(),
        limits=Limits(max_steps=steps, **limits),
        machine=machine,
        resume=resume,
        validate=validate,
        tensorboard=False,
    )


def ready(out, **limits) -> _Run:
    """A run that has begun and taken no step."""
    run = _Run(
        CrudeStream(), out, crude_preset(), Limits(**limits), CPU, 0, perceptual=None, validate=None,
        tensorboard=False,
    )  # fmt: skip
    run.begin(False, [], None, {})
    return run


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


class Alternating(CrudeStream):
    """Every other batch is of a source that knows no lesions, as those of a ``pairs.csv`` are."""

    def batch_at(self, index):
        samples = super().batch_at(index)
        return dataclasses.replace(samples, lesions=None, lesion_known=None) if index % 2 else samples


def test_batches_of_one_step_may_know_different_things(tmp_path):
    found = {}
    for name in ("parts", "step"):
        run = _Run(
            Alternating(), tmp_path / name, crude_preset(accumulation=2), Limits(), CPU, 0, None, None, False
        )
        run.begin(False, [], None, {})
        try:
            found[name] = (
                run.one_step() if name == "step" else run._generator_gradient(run.weights_now(), None)[1]
            )
        finally:
            run.close()
    first, second = found["parts"]
    assert "lesions" not in second
    assert found["step"]["lesions"] == pytest.approx(float(first["lesions"]))
    mean = (first["reconstruction"] + second["reconstruction"]) / 2
    assert found["step"]["reconstruction"] == pytest.approx(float(mean))
    assert go(tmp_path / "run", 3, stream=Alternating(), preset=crude_preset(accumulation=2)).step == 3


def test_the_last_checkpoints_are_kept(tmp_path):
    go(tmp_path / "run", 9, save_steps=2, keep=3)
    assert [path.name[-2:] for path in checkpoints.list_checkpoints(tmp_path / "run")] == ["06", "08", "09"]
    with pytest.raises(ConfigError, match="keep is 0"):
        Limits(keep=0)


def test_the_last_step_is_saved_once(tmp_path, monkeypatch):
    saved, save = [], checkpoints.save_checkpoint

    def count(run, step, *rest, **named):
        saved.append(step)
        return save(run, step, *rest, **named)

    monkeypatch.setattr(checkpoints, "save_checkpoint", count)
    report = go(tmp_path / "run", 4, save_steps=2)
    assert saved == [2, 4]
    assert report.checkpoint.name == "step-00000004"


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


def test_a_frozen_encoder_stays_as_it_is_while_the_decoder_learns(tmp_path):
    alone = with_settings(crude_preset(), {"optimiser.encoder": False})
    go(tmp_path / "first", 1, preset=alone)
    go(tmp_path / "both", 3, preset=alone)
    first, later = tensors_of(tmp_path / "first"), tensors_of(tmp_path / "both")
    changed = {
        key
        for file, key in first
        if file == "generator" and not torch.equal(first[file, key], later[file, key])
    }
    start = TRUNK_LAYERS + alone.architecture.encoder_blocks
    layers = {int(key.split(".")[1]) for key in changed if key.startswith("model.")}
    assert layers and min(layers) >= start
    assert not any(key.startswith("lesion_heads.") for key in changed)
    resumed = go(tmp_path / "first", 3, preset=alone, resume=True)
    assert resumed.step == 3
    assert_same(tmp_path / "first", tmp_path / "both")


def test_bfloat16_trains_too(tmp_path):
    report = go(tmp_path / "run", 3, machine=Machine(device="cpu", precision="bfloat16"))
    assert all(torch.isfinite(torch.tensor(report.losses)))


@pytest.mark.parametrize("native", [True, False])
def test_bfloat16_is_not_emulated_unless_asked_for(native, tmp_path, monkeypatch):
    units = "some" if native else ""
    monkeypatch.setattr("retina_fm.encoding.precision._native_bfloat16_units", lambda: units)
    began = []
    autocast = torch.autocast
    monkeypatch.setattr(torch, "autocast", lambda *a, **k: began.append(k["enabled"]) or autocast(*a, **k))
    go(tmp_path / "run", 1, machine=Machine(device="cpu"))
    assert set(began) == {native}
    said = (tmp_path / "run" / "log.txt").read_text()
    assert f"computes in {'bfloat16' if native else 'float32'}" in said


def test_samples_without_lesion_maps_train(tmp_path):
    assert go(tmp_path / "run", 2, stream=CrudeStream(with_lesions=False)).step == 2


def test_another_preset_is_refused_on_resume_and_named(tmp_path):
    go(tmp_path / "run", 2)
    changed = with_settings(crude_preset(), {"weights.lesions": 0.5})
    with pytest.raises(OutputError, match="weights"):
        go(tmp_path / "run", 4, preset=changed, resume=True)


def test_a_run_goes_on_with_the_settings_it_began_with_when_its_preset_has_changed(tmp_path, monkeypatch):
    def called(steps, settings=None):
        pretrain(
            CrudeStream(), tmp_path / "run", "crude", settings=settings, resume=True, data=[], machine=CPU,
            limits=Limits(max_steps=steps), tensorboard=False,
        )  # fmt: skip
        return checkpoints.run_preset(tmp_path / "run")

    begun = crude_preset().model_copy(update={"name": "crude"})
    released = {"crude": begun}
    monkeypatch.setattr(presets, "PRESETS", released)
    called(2)
    released["crude"] = with_settings(begun, {"weights.lesions": 0.5})
    assert called(3) == begun
    with pytest.raises(OutputError, match="weights"):
        called(4, {"weights.lesions": 0.5})


def test_weights_of_a_run_that_matched_features_by_the_mean_of_layers_are_read_as_they_were(tmp_path):
    go(tmp_path / "run", 1)
    file = tmp_path / "run" / "run.json"
    about = json.loads(file.read_text())
    about["preset"]["weights"] |= {"feature_matching": 1.0}
    del about["preset"]["weights"]["patch_identity"]
    del about["checksum"]
    file.write_text(json.dumps(about))
    assert checkpoints.begun_preset(tmp_path / "run").weights.feature_matching == 0.25


def test_a_run_continues_with_other_rates_which_are_recorded(tmp_path):
    go(tmp_path / "run", 2)
    lower = {"optimiser.rate": 1e-4, "optimiser.discriminator_rate": 1e-5}
    changed = with_settings(crude_preset(), lower)
    assert go(tmp_path / "run", 3, preset=changed, resume=True).step == 3
    go(tmp_path / "run", 4, preset=changed, resume=True)
    about = checkpoints.read_run_file(tmp_path / "run")
    assert about["preset"]["optimiser"]["rate"] == crude_preset().optimiser.rate
    assert about["changes"] == [{"step": 2, "settings": lower}]
    assert checkpoints.run_preset(tmp_path / "run") == changed
    assert "from step 2 on, optimiser.rate is 0.0001" in (tmp_path / "run" / "log.txt").read_text()


def test_a_run_continues_with_a_smaller_batch_and_as_many_samples_a_step(tmp_path):
    go(tmp_path / "run", 2)
    halved = crude_preset(batch=1, accumulation=2)
    for steps in (3, 4):
        report = go(tmp_path / "run", steps, stream=CrudeStream(batch=1), preset=halved, resume=True)
        assert report.samples == 2 * steps
    with pytest.raises(OutputError, match="2 samples, a step of this call 1"):
        go(tmp_path / "run", 5, stream=CrudeStream(batch=1), preset=crude_preset(batch=1), resume=True)


def test_a_smaller_batch_goes_on_at_the_same_sample():
    saved = {"seed": 0, "index": 5, "batch": 4}
    state = renumbered(saved, 2, 10)
    wanted = pass_order(0, 5, 4, 7)
    assert pass_order(0, state["index"], state["batch"], 7) + pass_order(0, 11, 2, 7) == wanted
    mixture = renumbered({"shares": [1, 1], "streams": [saved, saved]}, 2, 10)
    assert [own["batch"] for own in mixture["streams"]] == [2, 2]


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


def test_a_discriminator_that_is_not_finite_stops_before_anything_steps(tmp_path, monkeypatch):
    calls, loss = [], losses.lsgan_discriminator

    def broken(real, fake):
        calls.append(1)
        return loss(real, fake) * (torch.nan if len(calls) > 2 else 1)

    monkeypatch.setattr(losses, "lsgan_discriminator", broken)
    stepped, update = [], _Run._update
    monkeypatch.setattr(_Run, "_update", lambda run, *rest: (stepped.append(run.step), update(run, *rest)))
    preset = with_settings(crude_preset(), {"curriculum.adversarial_from": 0.0})
    with pytest.raises(OutputError, match=r"discriminators is not finite at step 2 .*batch 2: .*nan"):
        go(tmp_path / "run", 5, preset=preset, save_steps=1)
    assert stepped == [0, 1]
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
        patch.setattr(checkpoints, "write_synced", full)
        go(tmp_path / "run", 4, resume=True)
    after = tensors_of(tmp_path / "run")
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert go(tmp_path / "run", 4, resume=True).step == 4


def test_full_memory_names_the_setting_to_lower(tmp_path, monkeypatch):
    def full(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("retina_fm.training.pretraining.losses.learner.Learner.forward", full)
    with pytest.raises(OutputError, match=r"--batch .*--crop"):
        go(tmp_path / "run", 1)


def test_full_memory_at_the_beginning_is_said_too(tmp_path, monkeypatch):
    def full(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("retina_fm.training.pretraining.loop.RunState", full)
    with pytest.raises(OutputError, match=r"--resident"):
        go(tmp_path / "run", 1)


def test_a_file_instead_of_a_folder_is_refused(tmp_path):
    (tmp_path / "run").write_text("")
    with pytest.raises(OutputError, match="is a file"):
        go(tmp_path / "run", 1)


@pytest.mark.parametrize("device", ["cuda", "cuda:7", "gpu"])
def test_a_device_that_is_not_there_is_refused(tmp_path, monkeypatch, device):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match=f"--device is '{device}'"):
        go(tmp_path / "run", 1, machine=Machine(device=device))


def test_a_log_that_cannot_be_written_says_that_checkpoints_are_intact(tmp_path, monkeypatch):
    go(tmp_path / "run", 2)
    log = tmp_path / "run" / "metrics.jsonl"
    log.unlink()
    log.mkdir()  # as good as a full disk: it cannot be written
    with pytest.raises(OutputError, match="checkpoints are intact"):
        go(tmp_path / "run", 4, resume=True, log_steps=1)
    assert [path.name for path in checkpoints.list_checkpoints(tmp_path / "run")] == ["step-00000002"]


def test_the_sheet_of_a_validation_goes_to_the_log(tmp_path, monkeypatch):
    shown = []
    monkeypatch.setattr(RunLog, "picture", lambda _, step, *rest: shown.append((step, rest[-1].name)))

    def validate(generator, step):
        (tmp_path / "run" / "sheets").mkdir(exist_ok=True)
        Image.new("RGB", (4, 4)).save(tmp_path / "run" / "sheets" / f"step-{step:08d}.png")
        return {"psnr": 1.0}

    go(tmp_path / "run", 2, validate=validate)
    assert shown == [(2, "step-00000002.png")]


def test_a_stream_of_another_batch_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="batches of 3"):
        go(tmp_path / "run", 1, stream=CrudeStream(batch=3))


def test_minutes_end_a_run_with_a_checkpoint(tmp_path):
    report = go(tmp_path / "run", None, max_minutes=0.01)
    assert report.stopped == "minutes"
    assert report.checkpoint is not None


def test_a_schedule_in_minutes_ends_by_itself(tmp_path):
    assert go(tmp_path / "run", None, schedule_minutes=0.02).stopped == "schedule"


def test_a_schedule_in_minutes_stays_when_the_run_continues(tmp_path):
    go(tmp_path / "run", 2, schedule_minutes=5.0)
    run = _Run(CrudeStream(), tmp_path / "run", crude_preset(), Limits(), CPU, 0, None, None, False)
    try:
        run.begin(True, [], None, {})
        assert run.limits.schedule_minutes == 5.0
    finally:
        run.close()
    for other in (4.0, 6.0):
        with pytest.raises(OutputError, match="of 5 minutes then, of"):
            go(tmp_path / "run", 4, resume=True, schedule_minutes=other)
    go(tmp_path / "steps", 2)
    with pytest.raises(OutputError, match="by steps then, of 5 minutes now"):
        go(tmp_path / "steps", 4, resume=True, schedule_minutes=5.0)


def test_a_run_with_features_of_vgg_does_not_go_on_without_them(tmp_path):
    preset = with_settings(crude_preset(), {"weights.perceptual": 1.0})
    go(tmp_path / "run", 2, preset=preset)
    about = checkpoints.read_run_file(tmp_path / "run")
    assert about["perceptual"] is False
    checkpoints.write_run_file(tmp_path / "run", {**about, "perceptual": True})
    with pytest.raises(OutputError, match="with weights of VGG-19 then, without now"):
        go(tmp_path / "run", 4, preset=preset, resume=True)


class SecondProcess:
    """Stands in for Accelerate in the second of two processes; the first one's clock says 9 minutes."""

    num_processes, process_index, is_main_process = 2, 1, False

    def reduce(self, values, reduction):
        assert reduction == "sum"
        return values + 9.0


def test_the_first_processs_clock_counts_for_all(tmp_path):
    run = ready(tmp_path / "run", schedule_minutes=10.0)
    try:
        run.accelerator = SecondProcess()
        run._tick(1.0)
        assert run.state.minutes == 9.0
        assert run._progress(run.step) == pytest.approx(0.9)
        assert run.weights_now() == run.preset.weights  # past the warm start, as the first process says
    finally:
        run.close()


def test_batches_follow_the_clock_of_when_they_were_ordered(tmp_path):
    run = ready(tmp_path / "run", schedule_minutes=10.0)
    try:
        for minutes in (1.0, 2.0, 3.0):
            run.state.step += 1
            run._tick(minutes)
        assert run._progress(run.step) == pytest.approx(0.6)
        assert [run._progress_drawn(step) for step in (3, 4, 5)] == pytest.approx([0.1, 0.3, 0.6])
        assert 0 not in run.clock
    finally:
        run.close()
