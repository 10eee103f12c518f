"""A run becomes a weights folder that loads, embeds and generates."""

from __future__ import annotations

import argparse
import csv
import dataclasses
import hashlib
import json

import numpy as np
import pytest
import torch
from crude_stream import CrudeStream
from PIL import Image
from run_crude import crude_preset

import retina_fm
from retina_fm.cli import export as export_command
from retina_fm.errors import ConfigError, NoPicturesError, OutputError
from retina_fm.models import load, load_generator, read_config
from retina_fm.models.whitening import read_whitening
from retina_fm.training.pairs.table import Frame, PairSequence, write_pairs
from retina_fm.training.pretraining import checkpoints
from retina_fm.training.pretraining.calibration import known_windows
from retina_fm.training.pretraining.export import (
    SOURCES,
    export,
    names_of,
    principal_directions,
    sources_table,
    training_views,
)
from retina_fm.training.pretraining.pretrain import _beginning, pretrain
from retina_fm.training.pretraining.run_settings import Limits, Machine


@pytest.fixture(scope="module")
def run(tmp_path_factory, prepared_eyes):
    folder = tmp_path_factory.mktemp("export")
    for number, eye in enumerate(prepared_eyes):
        eye.save(folder / "eyes" / f"{number}.eye.safetensors")
    pretrain(
        CrudeStream(),
        folder / "run",
        crude_preset(),
        limits=Limits(max_steps=3),
        machine=Machine(device="cpu"),
        data=[str(folder / "eyes")],
        tensorboard=False,
    )
    return folder


def test_the_average_is_exported_in_bfloat16_with_a_card(run):
    config = export(run / "run", run / "weights", licence="CC-BY-4.0")
    assert config.card.licence == "CC-BY-4.0"
    assert config.card.training_data == "eyes"
    assert config.provenance["steps"] == 3
    assert config.provenance["samples"] == 6
    assert config.provenance["retina_fm_version"] == retina_fm.__version__
    average = checkpoints.load_checkpoint(checkpoints.list_checkpoints(run / "run")[-1]).tensors["average"]
    generator = load_generator(str(run / "weights")).state_dict()
    for key, value in average.items():
        assert torch.equal(generator[key], value.to(torch.bfloat16).float()), key


def test_the_exported_encoder_embeds_with_a_pooling_fitted_on_the_training_photographs(run):
    export(run / "run", run / "weights2")
    encoder = retina_fm.load(str(run / "weights2"))
    views = torch.stack(list(training_views([run / "eyes"], 128, 10)))
    with torch.no_grad():
        embeddings = encoder.embed(views)
    assert embeddings.shape == (4, 32)
    assert torch.isfinite(embeddings).all()
    assert embeddings.mean(0).abs().max() < 0.02 * embeddings.abs().max(), "centred on what it was fitted on"
    assert torch.linalg.matrix_rank(embeddings.double(), atol=0.5) == 3


def test_whitening_and_a_list_of_every_photograph_ship_beside_the_weights(run):
    config = export(run / "run", run / "weights3")
    assert config.whitening is not None
    whitening = read_whitening(run / "weights3")
    assert whitening is not None and whitening.dimension == 32
    rows = list(csv.DictReader((run / "weights3" / SOURCES).read_text().splitlines()))
    assert [row["set"] for row in rows] == ["eyes"] * 4
    assert all(row["photo"] for row in rows)


def test_data_named_twice_count_once(run, tmp_path):
    part = tmp_path / "healthy"
    part.mkdir()
    first = sorted((run / "eyes").glob("*.eye.safetensors"))[0]
    (part / first.name).symlink_to(first)
    places = [run / "eyes", run / "eyes", part]
    assert len(list(training_views(places, 128, 10))) == 4
    rows = list(csv.DictReader(sources_table(places).decode().splitlines()))
    assert [row["set"] for row in rows] == ["eyes"] * 4


def test_directions_are_orthonormal_and_principal_ones_come_first():
    generator = torch.Generator().manual_seed(0)
    data = torch.randn(5, 40, generator=generator, dtype=torch.float64)
    data -= data.mean(0)
    rows = principal_directions(data, 12)
    assert torch.allclose(rows @ rows.t(), torch.eye(12), atol=1e-5)
    kept = (data.float() @ rows.t()).square().sum()
    assert kept == pytest.approx(data.square().sum().item(), rel=1e-4), "distances of the photographs stay"
    spread = (data.float() @ rows.t()).square().sum(0)
    assert (spread[:3] > spread[1:4]).all()


def test_a_run_without_checkpoint_and_a_folder_without_run_are_refused(run, tmp_path):
    with pytest.raises(OutputError, match="holds no run"):
        export(tmp_path, tmp_path / "weights")
    checkpoints.write_run_file(tmp_path, {"preset": crude_preset().model_dump(), "seed": 0, "data": []})
    with pytest.raises(OutputError, match="no checkpoint"):
        export(tmp_path, tmp_path / "weights")


def test_one_photograph_is_too_few_to_fit_on(run, tmp_path, prepared_eyes):
    prepared_eyes[0].save(tmp_path / "one" / "0.eye.safetensors")
    with pytest.raises(NoPicturesError, match="two photographs"):
        export(run / "run", tmp_path / "weights", data=[str(tmp_path / "one")])


def test_the_card_names_what_the_run_saw_not_what_the_pooling_was_fitted_on(run, tmp_path):
    (tmp_path / "other").symlink_to(run / "eyes")
    config = export(run / "run", tmp_path / "weights", data=[str(tmp_path / "other")])
    assert config.card.training_data == "eyes"


def test_a_table_of_pairs_goes_by_the_name_of_its_folder():
    assert names_of(["data/clinic/pairs.csv", "data/clinic", "data/eyes"]) == "clinic, eyes"
    with pytest.raises(ConfigError, match="--training-data"):
        names_of([])


@pytest.fixture
def moved(run, tmp_path):
    """The same run, whose data have gone since."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / checkpoints.FOLDER).symlink_to(run / "run" / checkpoints.FOLDER)
    about = json.loads((run / "run" / "run.json").read_text())
    checkpoints.write_run_file(tmp_path / "run", {**about, "data": [str(tmp_path / "gone")]})
    return tmp_path / "run"


def test_data_that_are_gone_are_refused_and_named(run, moved, tmp_path):
    with pytest.raises(ConfigError, match=r"gone, no longer there.*--without-sources.*--data"):
        export(moved, tmp_path / "weights")
    with pytest.raises(ConfigError, match=r"gone, no longer there.*--without-sources"):
        export(moved, tmp_path / "weights", data=[str(run / "eyes")])
    with pytest.raises(ConfigError, match=r"gone, no longer there.*--data"):
        export(moved, tmp_path / "weights", sources=False)
    assert not (tmp_path / "weights").exists()


def test_the_list_of_photographs_is_left_out_where_that_is_asked_for(run, moved, tmp_path):
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / SOURCES).write_text("set,photo,sha256\n")
    parser = argparse.ArgumentParser()
    export_command.add(parser.add_subparsers())
    words = ["export", moved, "--out", tmp_path / "weights", "--data", run / "eyes", "--without-sources"]
    arguments = parser.parse_args([str(word) for word in words])
    assert arguments.handler(arguments) == 0
    assert read_config(tmp_path / "weights").card.training_data == "gone"
    assert not (tmp_path / "weights" / SOURCES).exists()


def test_a_run_that_names_no_data_does_not_get_an_empty_list(run, moved, tmp_path):
    about = json.loads((moved / "run.json").read_text())
    checkpoints.write_run_file(moved, {**about, "data": []})
    with pytest.raises(ConfigError, match=r"names no data.*--without-sources"):
        export(moved, tmp_path / "weights", data=[str(run / "eyes")], training_data="mine")


def paired(folder, split):
    frames = tuple(Frame(folder / f"{phase}.png", phase) for phase in ("arterial", "venous", "late"))
    return PairSequence(split, folder / f"{split}.png", frames, split=split)


def test_photographs_of_pairs_that_are_trained_on_are_listed(tmp_path):
    clinic = tmp_path / "clinic"
    clinic.mkdir()
    Image.fromarray(np.full((8, 8, 3), 90, np.uint8)).save(clinic / "train.png")
    write_pairs(clinic / "pairs.csv", [paired(clinic, "train"), paired(clinic, "val")])
    (row,) = csv.DictReader(sources_table([clinic / "pairs.csv", clinic]).decode().splitlines())
    digest = hashlib.sha256((clinic / "train.png").read_bytes()).hexdigest()
    assert row == {"set": "clinic", "photo": "train.png", "sha256": digest}
    (clinic / "train.png").unlink()
    with pytest.raises(ConfigError, match=r"train\.png.*--without-sources"):
        sources_table([clinic])


def test_lesion_maps_are_calibrated_and_colour_is_pooled_where_that_is_asked_for(
    run, tmp_path, prepared_eyes
):
    export(run / "run", tmp_path / "plain", sources=False)
    config = export(run / "run", tmp_path / "asked", sources=False, calibrated_on=40, colour=True)
    assert load(str(tmp_path / "asked")).pooling.blocks["colour"] == 92
    assert config.provenance["lesions_calibrated"]["windows"] == 40
    plain, asked = (load_generator(str(tmp_path / name)) for name in ("plain", "asked"))
    photo = torch.rand(1, 3, 64, 64) * 2 - 1
    with torch.inference_mode():
        before, after = plain(photo), asked(photo)
    assert torch.equal(before.frames, after.frames)
    fitted = config.provenance["lesions_calibrated"]["scale_and_offset"]
    changed = {stride for stride, pairs in fitted.items() if any(pair != (1.0, 0.0) for pair in pairs)}
    strides = ("stride1", "stride4", "stride8")
    differ = {
        s for s, one, two in zip(strides, before.lesions, after.lesions, strict=True) if not one.equal(two)
    }
    assert differ == changed != set()
    begun, again = (_beginning(tmp_path / name, plain.architecture)[0] for name in ("plain", "asked"))
    for key, value in begun.items():
        torch.testing.assert_close(again[key].float(), value.float(), atol=0.02, rtol=0.02)
    eye = prepared_eyes[0]
    unknown = dataclasses.replace(eye, lesion_known=np.zeros_like(eye.lesion_known))
    unknown.save(tmp_path / "unknown" / "0.eye.safetensors")
    with pytest.raises(ConfigError, match="every lesion known"):
        list(known_windows([tmp_path / "unknown"], 2, 64))
