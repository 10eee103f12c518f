"""Validation reads vessels off frames, judges encoders by probes, and fails early on bad tables."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch
from crude_stream import crude_sequence
from PIL import Image

from retina_fm.errors import ConfigError, MissingDependencyError, NoPicturesError
from retina_fm.metrics.videos import FigureNetworks, psnr
from retina_fm.network import Architecture, Generator
from retina_fm.training.pairs.table import Frame, PairSequence, write_pairs
from retina_fm.training.pretraining.presets import preset_named, with_settings
from retina_fm.training.pretraining.validating import probes, validation
from retina_fm.vessels.reading import vessel_score

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
    assert probes.recall_at_1(features, ["a", "a", "b", "b", "c"]) == 0.5


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
    figures = probes.probe(generator, folder / "labels.csv", 64)
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


SINGLE = {"single_frame": True, "video_steps": (5,), "architecture.in_channels": 3}


@pytest.fixture
def eyes(tmp_path, prepared_eyes):
    for number, eye in enumerate(prepared_eyes[:2]):
        eye.save(tmp_path / "eyes" / f"{number}.eye.safetensors")
    return tmp_path / "eyes"


def test_a_model_of_one_frame_is_judged_on_that_frame(eyes):
    preset = with_settings(preset_named("tiny"), SINGLE)
    single = Generator(SMALL.model_copy(update={"in_channels": 3})).eval()
    never = FigureNetworks(fvd=pytest.fail)  # a frame is no video
    validate = validation.make_validation(eyes / "run", preset, held_back=eyes, networks=never)
    figures = validate(single, 3)
    assert set(figures) == {"psnr", "psnr_public_code", "ssim"}
    held = validation.read_held_back(eyes, 64)
    with torch.no_grad():
        made = torch.where((held.photos > -1).any(1, keepdim=True), single(held.photos).frames, -1.0)
    true = held.frames[:, 6:7]
    assert figures["psnr"] == pytest.approx(psnr(made.mean(1, keepdim=True), true)["psnr"], abs=0.01)
    with Image.open(eyes / "run" / "sheets" / "step-00000003.png") as sheet:
        assert sheet.size == (64 * 2, 64 * 4)


def test_videos_are_not_promised_without_torchmetrics(eyes, monkeypatch):
    def missing(name):
        raise MissingDependencyError(name)

    monkeypatch.setattr(validation, "import_torchmetrics", missing)
    with pytest.raises(MissingDependencyError):
        validation.make_validation(eyes / "run", preset_named("tiny"), held_back=eyes)


@pytest.mark.parametrize(("name", "frame"), [("fundus2fa", 6), ("pix2pixhd", 6), ("tiny", None)])
def test_comparison_models_make_the_venous_frame_six(name, frame):
    assert validation.single_frame_of(preset_named(name)) == frame


def pairs(folder, splits):
    """A pairs.csv of one sequence a split; the brighter the photo, the later the sequence."""
    folder.mkdir()
    y, x = np.mgrid[:96, :96]
    inside = (y - 48) ** 2 + (x - 48) ** 2 < 46**2
    frames = tuple(Frame(folder / f"{phase}.png", phase) for phase in ("arterial", "venous", "late"))
    for frame in frames:
        Image.fromarray((inside * 120).astype(np.uint8)).save(frame.path)
    sequences = []
    for number, split in enumerate(splits):
        photo = folder / f"{number}.png"
        Image.fromarray(np.repeat((inside * (60 + 60 * number)).astype(np.uint8)[..., None], 3, 2)).save(
            photo
        )
        sequences.append(PairSequence(f"s{number}", photo, frames, split=split))
    write_pairs(folder / "pairs.csv", sequences)
    return folder


@pytest.mark.parametrize(
    ("splits", "expected"),
    [(["train", "val", "test"], [1]), (["train", "", "test"], [2]), (["val", "test", "val"], [0, 2])],
)
def test_sequences_that_are_trained_on_are_never_held_back(tmp_path, splits, expected):
    held = validation.read_held_back(pairs(tmp_path / "clinic", splits), 64)
    levels = ((held.photos.amax((1, 2, 3)) + 1) * 127.5).round().tolist()
    assert levels == pytest.approx([60 + 60 * number for number in expected], abs=2)


@pytest.mark.parametrize("splits", [["train", "train"], ["", ""]])
def test_a_table_that_holds_nothing_back_says_how_to_mark_rows(tmp_path, splits):
    with pytest.raises(NoPicturesError, match="Write val into the column split"):
        validation.read_held_back(pairs(tmp_path / "clinic", splits) / "pairs.csv", 64)


def test_a_table_with_too_few_pictures_a_label_is_refused_before_training(folder):
    table = folder / "labels.csv"
    lines = table.read_text().splitlines()
    table.write_text("\n".join(lines[:16]))
    with pytest.raises(ConfigError, match=r"two labels with 10 pictures.*dark 8, light 7"):
        validation.make_validation(folder / "run", preset_named("tiny"), probes=[table])


@pytest.mark.parametrize("patients", [1, 2, 6])
def test_a_label_of_one_patient_is_refused_before_training(folder, patients):
    table = folder / "labels.csv"
    lines = ["path,patient_id,label"]
    for number in range(24):
        label, patient = ("rare", 0) if number < 12 else ("common", number % patients)
        lines.append(f"{number:02d}.png,p{patient},{label}")
    table.write_text("\n".join(lines))
    with pytest.raises(ConfigError, match="too few patients"):
        validation.make_validation(folder / "run", preset_named("tiny"), probes=[table])


def test_what_fails_later_is_logged_once_and_the_rest_is_judged(folder, generator, caplog):
    (folder / "b").mkdir()
    for kind in ("images", "labels.csv"):
        (folder / "b" / kind).symlink_to(folder / kind)
    copy = folder / "copy.csv"
    copy.write_text((folder / "labels.csv").read_text())
    tables = [copy, folder / "b" / "labels.csv"]
    validate = validation.make_validation(folder / "run", preset_named("tiny"), probes=tables)
    copy.unlink()
    logger = logging.getLogger("retina_fm.training")
    logger.addHandler(caplog.handler)
    try:
        figures = [validate(generator, step) for step in (1, 2)]
    finally:
        logger.removeHandler(caplog.handler)
    assert [set(found) for found in figures] == [{"b/auroc", "b/recall@1"}] * 2
    said = {record.getMessage() for record in caplog.records}
    assert len(said) == 1
    assert "copy.csv cannot be read" in said.pop()


@pytest.mark.parametrize(
    ("tables", "names"),
    [
        (["a/messidor/labels.csv", "a/idrid/labels.csv"], ["messidor", "idrid"]),
        (["a/test/labels.csv", "b/test/labels.csv"], ["a/test", "b/test"]),
        (["a/b/one.csv", "a/b/two.csv"], ["1 a/b", "2 a/b"]),
    ],
)
def test_no_two_probes_have_one_name(tables, names):
    assert probes.probe_names(tables) == names


def test_a_sheet_marks_what_was_generated_and_not_what_is_true() -> None:
    photos, videos = torch.zeros(1, 3, 64, 64), torch.full((1, 12, 64, 64), 0.5)
    made = np.asarray(validation.sheet(photos, [videos, videos]))
    true, generated = made[:64, 64:], made[64:, 64:]
    assert len(np.unique(true)) == 1
    tiles = [generated[:, start : start + 64] for start in range(0, generated.shape[1], 64)]
    assert all(tile.min() == 0 and len(np.unique(tile)) > 2 for tile in tiles)
