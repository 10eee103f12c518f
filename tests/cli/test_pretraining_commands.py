"""The commands of pretraining: train, resume, export, check; and what they say about bad input."""

from __future__ import annotations

import argparse
import json
import logging

import numpy as np
import pytest
import torch
from PIL import Image

import retina_fm
from retina_fm.cli import export, pretrain
from retina_fm.errors import ConfigError, NoPicturesError, OutputError, WeightsNotFoundError
from retina_fm.models import load_generator
from retina_fm.training import Limits, Machine, Validation, draw_retina, find_recipe, prepare_drawn

VESSEL_MAP = ("--set", "architecture.vessels=true", "--set", "weights.vessels=2")


def run(*words) -> int:
    parser = argparse.ArgumentParser()
    subparsers = parser.add_subparsers()
    pretrain.add(subparsers)
    export.add(subparsers)
    arguments = parser.parse_args([str(word) for word in words])
    return arguments.handler(arguments)


@pytest.fixture(scope="module")
def eyes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("eyes")
    for seed in range(2):
        prepare_drawn(draw_retina(seed, 96)).save(folder / f"{seed}.eye.safetensors")
    return folder


def test_train_resume_export(eyes, tmp_path, capsys):
    words = [
        "pretrain",
        "--data",
        eyes,
        "--preset",
        "tiny",
        "--out",
        tmp_path / "run",
        "--batch",
        2,
        "--crop",
        64,
    ]
    assert run(*words, "--max-steps", 2) == 0
    assert run(*words, "--max-steps", 3, "--resume", "--precision", "float32") == 0
    assert run("export", tmp_path / "run", "--out", tmp_path / "weights", "--licence", "CC-BY-4.0") == 0
    text = capsys.readouterr().out
    assert "step 3, 6 samples" in text
    assert (tmp_path / "weights" / "config.json").is_file()
    assert all(p.stat().st_size < 16e6 for p in (tmp_path / "weights").iterdir())
    begun = ["pretrain", "--data", eyes, "--preset", "tiny", "--out", tmp_path / "run", "--resume"]
    assert (
        run(*begun, "--max-steps", 4, "--precision", "float32") == 0
    )  # with the settings that it began with
    assert "step 4, 8 samples" in capsys.readouterr().out
    with pytest.raises(OutputError, match="steps: 200 then, 9 now"):
        run(*begun, "--steps", 9)


def test_a_run_of_twice_the_width_starts_from_a_narrow_one(eyes, tmp_path):
    words = ["pretrain", "--data", eyes, "--preset", "tiny", "--batch", 2, "--crop", 64, "--max-steps", 1]
    assert run(*words, "--out", tmp_path / "narrow") == 0
    assert run("export", tmp_path / "narrow", "--out", tmp_path / "weights") == 0
    wide = [*words, "--start-from", tmp_path / "weights", "--out", tmp_path / "wide"]
    with pytest.raises(ConfigError, match="half its width"):
        run(*wide, "--set", "architecture.width=12")
    assert run(*wide, "--set", "architecture.width=16") == 0
    assert run("export", tmp_path / "wide", "--out", tmp_path / "wider") == 0
    origin = json.loads((tmp_path / "wider" / "config.json").read_text())["provenance"]["started_from"]
    assert origin["model"] == "weights" and origin["steps"] == 1


def test_a_missing_network_is_said_at_the_beginning(eyes, tmp_path, caplog):
    words = ["pretrain", "--data", eyes, "--preset", "tiny", "--batch", 2, "--crop", 64, "--max-steps", 1]
    with pytest.raises(WeightsNotFoundError, match="AlexNet"):
        run(*words, "--out", tmp_path / "a", "--held-back", eyes, "--lpips", tmp_path / "alexnet.pth")
    assert not (tmp_path / "a").exists()
    logging.getLogger("retina_fm.training").addHandler(caplog.handler)
    run(*words, "--out", tmp_path / "b", "--held-back", eyes)
    assert "validation without LPIPS (--lpips FILE) and FVD" in caplog.text
    assert "ssim" in caplog.text


def test_a_run_with_a_list_among_its_settings_continues_by_the_same_line(eyes, tmp_path):
    words = ["pretrain", "--data", eyes, "--preset", "tiny", "--out", tmp_path / "run", "--batch", 2]
    words += ["--set", "curriculum.crops=[64]", "--resume"]
    assert run(*words, "--max-steps", 1) == 0
    assert run(*words, "--max-steps", 2) == 0
    with pytest.raises(ConfigError, match="--data"):
        run(*words, "--max-steps", 3, "--data", eyes)


def test_full_memory_while_data_are_opened_names_what_to_leave_out(eyes, tmp_path, monkeypatch):
    def full(*_, **__):
        raise MemoryError

    monkeypatch.setattr("retina_fm.training.pretraining.data.samples.stack_eyes", full)
    words = ["pretrain", "--data", eyes, "--preset", "tiny", "--out", tmp_path / "run", "--resident"]
    with pytest.raises(OutputError, match="Leave out --resident"):
        run(*words)


def test_presets_and_recipes_are_listed(capsys):
    assert run("pretrain", "--preset", "list") == 0
    assert "fundus2video-paper" in capsys.readouterr().out
    assert run("pretrain", "--recipe", "list") == 0
    listed = capsys.readouterr().out
    assert all(find_recipe(name).about in listed for name in ("fundus2video", "fundus2video-half"))


def test_a_script_trains_what_the_command_trains(eyes, tmp_path):
    words = [
        "--data",
        eyes,
        "--preset",
        "tiny",
        "--batch",
        "auto",
        "--crop",
        64,
        "--seed",
        3,
        "--device",
        "cpu",
    ]
    run("pretrain", *words, "--out", tmp_path / "command", "--max-steps", 1, "--held-back", eyes)
    retina_fm.training.pretrain(
        eyes,
        tmp_path / "script",
        "tiny",
        settings={"curriculum.crops": [64]},
        batch="auto",
        validate=Validation(held_back=eyes),
        limits=Limits(max_steps=1),
        machine=Machine(device="cpu"),
        seed=3,
    )
    one, two = (tmp_path / name for name in ("command", "script"))
    assert (one / "run.json").read_bytes() == (two / "run.json").read_bytes()
    files = [path.relative_to(one) for path in one.glob("checkpoints/*/*.safetensors")]
    assert len(files) > 3
    for path in [*files, "sheets/step-00000001.png"]:
        assert (one / path).read_bytes() == (two / path).read_bytes()


def test_a_recipe_leaves_nothing_to_choose(eyes, tmp_path):
    with pytest.raises(ConfigError, match="fixes the run, but a preset and settings came"):
        words = ["--recipe", "fundus2video", "--data", eyes, "--preset", "tiny", "--set", "optimiser.rate=1"]
        run("pretrain", *words, "--out", tmp_path / "run")


@pytest.mark.parametrize(
    "words",
    [
        ["--set", "weights.lesions"],
        ["--set", "weight=1"],
        ["--set", "weights.lesions=abc"],
        ["--set", "architecture.vessels=true"],
        ["--batch", "many"],
        ["--crop", "100"],
        ["--keep", "0"],
        ["--device", "cuda:99"],
    ],
)
def test_settings_that_make_no_sense_are_refused(eyes, tmp_path, words):
    with pytest.raises(ConfigError):
        run("pretrain", "--data", eyes, "--preset", "tiny", "--out", tmp_path, *words)


def test_no_data_and_an_empty_folder_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="--data"):
        run("pretrain", "--preset", "tiny", "--out", tmp_path)
    with pytest.raises(NoPicturesError, match="no prepared eyes"):
        run("pretrain", "--data", tmp_path, "--preset", "tiny", "--out", tmp_path / "run")


def pairs(folder, sizes):
    """A pairs.csv of one sequence a size."""
    lines = ["sequence,photo,frame,phase"]
    for number, size in enumerate(sizes):
        y, x = np.mgrid[:size, :size]
        inside = (y - size / 2) ** 2 + (x - size / 2) ** 2 < (0.48 * size) ** 2
        colour = (inside[..., None] * np.array([170, 90, 50])).astype(np.uint8)
        Image.fromarray(colour).save(folder / f"{number}.png")
        for index, phase in enumerate(("arterial", "venous", "late")):
            grey = (inside * (60 + 40 * index)).astype(np.uint8)
            Image.fromarray(grey).save(folder / f"{number}-{index}.png")
            lines.append(f"s{number},{number}.png,{number}-{index}.png,{phase}")
    (folder / "pairs.csv").write_text("\n".join(lines))
    return folder / "pairs.csv"


def test_one_sequence_and_mixed_sizes_train(tmp_path):
    for name, sizes in (("one", [120]), ("mixed", [120, 200])):
        (tmp_path / name).mkdir()
        table = pairs(tmp_path / name, sizes)
        out = tmp_path / f"run-{name}"
        assert run("pretrain", "--data", table, "--preset", "tiny", "--out", out, "--max-steps", 2) == 0


def test_prepared_eyes_are_checked_too_and_an_empty_table_is_no_data(tmp_path, capsys):
    for number, size in enumerate((96, 96, 64)):
        (tmp_path / "eyes").mkdir(exist_ok=True)
        prepare_drawn(draw_retina(number, size)).save(tmp_path / "eyes" / f"{number}.eye.safetensors")
    assert run("pretrain", "--check", tmp_path / "eyes") == 1
    assert "is 64 pixels" in capsys.readouterr().out
    (tmp_path / "eyes" / "2.eye.safetensors").unlink()
    assert run("pretrain", "--check", tmp_path / "eyes") == 0
    assert "2 usable eyes, 0 problems" in capsys.readouterr().out
    table = pairs(tmp_path, [100])
    table.write_text(table.read_text().splitlines()[0] + "\n")
    assert run("pretrain", "--check", table) == 1


def test_pairs_are_checked_like_a_compiler(tmp_path, capsys):
    table = pairs(tmp_path, [100])
    assert run("pretrain", "--check", table) == 0
    table.write_text(table.read_text().replace("venous", "venus"))
    assert run("pretrain", "--check", table) == 1
    text = capsys.readouterr().out
    assert "row 3" in text
    with pytest.raises(ConfigError, match="problem"):
        run("pretrain", "--data", table, "--preset", "tiny", "--out", tmp_path / "run")


def test_a_vessel_map_is_added_to_weights_that_have_none(eyes, tmp_path):
    words = ["pretrain", "--data", eyes, "--preset", "tiny", "--batch", 2, "--crop", 64, "--max-steps", 1]
    run(*words, "--out", tmp_path / "plain")
    run("export", tmp_path / "plain", "--out", tmp_path / "weights")
    words += ["--start-from", tmp_path / "weights", *VESSEL_MAP]
    run(*words, "--out", tmp_path / "mapped")
    run("export", tmp_path / "mapped", "--out", tmp_path / "more")
    assert load_generator(str(tmp_path / "more")).architecture.vessels
    assert retina_fm.load(str(tmp_path / "more")).features(torch.zeros(1, 3, 64, 64)).lesions is not None


def test_a_vessel_map_cannot_be_learnt_from_pairs_alone(tmp_path):
    words = ["pretrain", "--preset", "tiny", "--out", tmp_path / "run", *VESSEL_MAP]
    with pytest.raises(ConfigError, match="prepared eyes beside them"):
        run(*words, "--data", pairs(tmp_path, [120]))
