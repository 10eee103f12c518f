"""Validation reads vessels off frames, judges encoders by probes, and fails early on bad tables."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from crude_stream import crude_sequence
from PIL import Image

from retina_fm.errors import ConfigError
from retina_fm.network import Architecture, Generator
from retina_fm.training import validation
from retina_fm.training.presets import preset_named
from retina_fm.vessel_reading import vessel_score

SMALL = Architecture(width=4, encoder_blocks=1, embedding=8)


@pytest.fixture(scope="module")
def generator():
    torch.manual_seed(0)
    return Generator(SMALL).eval()


def test_vessels_are_read_off_frames_and_the_rim_is_no_vessel():
    _, frames, _, inside = crude_sequence(3, 96)
    field = inside[None] > 0
    frames = (torch.where(field, frames + 0.1, 0.0) * 2 - 1)[None]
    vessels = vessel_score(frames, field)
    truth = crude_vessels(3, 96) & field
    assert validation.masked_auroc(vessels, truth, field) > 0.9
    assert vessels[~field].abs().max() == 0
    flat = torch.where(field, 0.4, -1.0)[None].expand(1, 12, -1, -1)
    assert vessel_score(flat, field)[field].std() < 1e-3


def crude_vessels(number, side):
    _, frames, lesions, _ = crude_sequence(number, side)
    rise = frames[4] - frames[4].median()
    return ((rise > 0.3) & (lesions.amax(0) == 0))[None]


def test_auroc_counts_only_inside_and_is_nan_without_both_classes():
    scores, labels = torch.tensor([[0.9, 0.1], [0.0, 0.8]]), torch.tensor([[True, False], [True, False]])
    inside = torch.tensor([[True, True], [False, True]])
    assert validation.masked_auroc(scores, labels, inside) == 1.0
    assert np.isnan(validation.masked_auroc(scores, torch.ones(2, 2, dtype=torch.bool), inside))


def test_recall_is_a_share_of_pictures_that_have_a_fellow():
    features = np.array([[1, 0], [0.9, 0.1], [0, 1], [0.1, -1], [-1, 0.0]])
    assert validation.recall_at_1(features, ["a", "a", "b", "b", "c"]) == 0.5


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "images").mkdir()
    lines = ["path,patient_id,label"]
    for number in range(24):
        photo, _, _, _ = crude_sequence(number // 2, 64)
        dark = 0.5 if number % 4 < 2 else 1.0
        array = (photo * dark * 255).permute(1, 2, 0).numpy().astype(np.uint8)
        Image.fromarray(array).save(tmp_path / "images" / f"{number:02d}.png")
        lines.append(f"{number:02d}.png,{number // 2},{'dark' if dark < 1 else 'light'}")
    (tmp_path / "labels.csv").write_text("\n".join(lines))
    return tmp_path


def test_a_probe_tells_labels_and_patients_apart(folder, generator):
    figures = validation.probe(generator, folder / "labels.csv", 64)
    assert figures["auroc"] > 0.9
    assert figures["recall@1"] > 0.9


def test_a_table_with_a_missing_picture_is_refused_before_training(folder):
    (folder / "images" / "03.png").unlink()
    with pytest.raises(ConfigError, match=r"03\.png"):
        validation.make_validation(folder / "run", preset_named("tiny"), probes=[folder / "labels.csv"])


def test_nothing_asked_for_is_no_validation(tmp_path):
    assert validation.make_validation(tmp_path, preset_named("tiny")) is None


def test_validation_gives_figures_and_a_sheet(folder, generator, prepared_eyes):
    for number, eye in enumerate(prepared_eyes[:2]):
        eye.save(folder / "eyes" / f"{number}.eye.safetensors")
    (folder / "masks").mkdir()
    for number in range(24):
        mask = crude_vessels(number // 2, 64)[0].numpy().astype(np.uint8) * 255
        Image.fromarray(mask).save(folder / "masks" / f"{number:02d}.png")
    validate = validation.make_validation(
        folder / "run",
        preset_named("tiny"),
        held_back=folder / "eyes",
        vessels=(folder / "images", folder / "masks"),
    )
    figures = validate(generator, 7)
    assert set(figures) == {"psnr", "psnr_public_code", "ssim", "vessel_auroc"}
    assert 0 < figures["vessel_auroc"] < 1
    with Image.open(folder / "run" / "sheets" / "step-00000007.png") as sheet:
        assert sheet.size == (64 * 7, 64 * 4)
