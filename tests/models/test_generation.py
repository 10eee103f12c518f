"""Synthetic angiograms come in the photo's own geometry and say what they are, in pixels and metadata."""

from __future__ import annotations

import argparse
import json

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage

from retina_fm.cli import generate as command
from retina_fm.errors import ConfigError, MissingDependencyError
from retina_fm.models import ModelCard, WeightsConfig, save_folder
from retina_fm.models.fundus2video import KIND
from retina_fm.models.generation import NOTICE, generate
from retina_fm.network import Architecture, Encoder, Generator
from retina_fm.pictures import Transform


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    torch.manual_seed(0)
    architecture = Architecture(width=4, encoder_blocks=1, embedding=8)
    pooling = {f"pooling.{k}": v for k, v in Encoder(architecture).pooling.state_dict().items()}
    config = WeightsConfig(
        name="small",
        kind=KIND,
        transform=Transform(size=64),
        card=ModelCard(licence="Apache-2.0", training_data="none"),
        network=architecture.model_dump(mode="json"),
    )
    folder = tmp_path_factory.mktemp("weights") / "small"
    save_folder(folder, config, {**Generator(architecture).state_dict(), **pooling})
    return folder


@pytest.fixture(scope="module")
def photo():
    y, x = np.mgrid[:150, :220]
    inside = (y - 75) ** 2 + (x - 120) ** 2 < 70**2
    return (inside[..., None] * np.array([180, 90, 40]) + 0).astype(np.uint8)


def test_frames_lie_in_the_photos_own_pixels_and_are_black_outside(weights, photo):
    video = generate(photo, str(weights), mark=False)
    assert video.frames.shape == (12, 150, 220)
    assert video.frames.dtype == np.uint8
    outside = (np.mgrid[:150, :220][0] - 75) ** 2 + (np.mgrid[:150, :220][1] - 120) ** 2 > 74**2
    assert video.frames[:, outside].max() == 0
    assert video.frames[:, 75, 120].min() > 0
    assert len(np.unique(video.frames.reshape(12, -1), axis=0)) > 1


def test_nothing_is_painted_into_the_black_beside_a_squeezed_photo(weights, photo):
    squeezed = np.array(Image.fromarray(photo).resize((110, 150)))
    frames = generate(squeezed, str(weights), mark=False).frames
    black = ndimage.binary_erosion(squeezed.max(axis=2) == 0, iterations=8, border_value=1)
    assert frames[:, black].max() == 0
    assert frames[:, squeezed.min(axis=2) > 30].min() > 0


def test_the_mark_is_in_a_corner_of_every_frame_and_nowhere_else(weights, photo):
    plain, marked = generate(photo, str(weights), mark=False), generate(photo, str(weights))
    rows, columns = np.nonzero((plain.frames != marked.frames).any(0))
    assert rows.min() > 150 - 20
    assert columns.max() < 80
    assert all((marked.frames[t, 130:, :80] > 150).any() for t in range(12))


def test_a_gif_has_twelve_frames_and_says_that_it_is_synthetic(weights, photo, tmp_path):
    path = generate(photo, str(weights)).save(tmp_path / "video.gif")
    with Image.open(path) as picture:
        assert picture.n_frames == 12
        assert picture.size == (220, 150)
        assert json.loads(picture.info["comment"])["Comment"] == NOTICE


def test_a_sheet_has_a_phase_a_row_and_says_that_it_is_synthetic(weights, photo, tmp_path):
    path = generate(photo, str(weights), mark=False).save(tmp_path / "video.png")
    with Image.open(path) as picture:
        assert picture.size == (880, 450)
        assert picture.text["Synthetic"] == "true"


def test_a_folder_holds_one_picture_a_frame(weights, photo, tmp_path):
    video = generate(photo, str(weights), mark=False)
    video.save(tmp_path / "frames")
    about = json.loads((tmp_path / "frames" / "video.json").read_text())
    assert about["Synthetic"] == "true"
    assert len(about["frames"]) == 12
    for frame, name in zip(video.frames, about["frames"], strict=True):
        with Image.open(tmp_path / "frames" / name) as picture:
            assert picture.text["Comment"] == NOTICE
            assert np.array_equal(np.asarray(picture), frame)


def test_mp4_is_written_or_names_the_extra(weights, photo, tmp_path):
    video = generate(photo, str(weights))
    try:
        import av
    except ImportError:
        with pytest.raises(MissingDependencyError, match=r"pip install av"):
            video.save(tmp_path / "video.mp4")
        return
    with av.open(str(video.save(tmp_path / "video.mp4"))) as container:
        assert container.metadata["synthetic"] == "true"
        assert sum(1 for _ in container.decode(video=0)) == 12 * 12


def test_another_ending_is_refused(weights, photo, tmp_path):
    with pytest.raises(ConfigError, match=r"\.gif, \.mp4, \.png"):
        generate(photo, str(weights)).save(tmp_path / "video.avi")


def test_a_model_without_generator_is_refused(photo):
    with pytest.raises(ConfigError, match="generator"):
        generate(photo, "fundus2video-random")


@pytest.mark.parametrize("device", ["gpu", "cuda:99"])
def test_a_device_that_is_not_there_is_refused(weights, photo, device):
    with pytest.raises(ConfigError, match=f"Device '{device}' cannot be used"):
        generate(photo, str(weights), device=device)


def test_the_command_writes_and_reports(weights, photo, tmp_path, capsys):
    Image.fromarray(photo).save(tmp_path / "photo.png")
    parser = argparse.ArgumentParser()
    command.add(parser.add_subparsers())
    words = [
        "generate",
        str(tmp_path / "photo.png"),
        "--model",
        str(weights),
        "--out",
        str(tmp_path / "v.gif"),
    ]
    arguments = parser.parse_args(words)
    assert arguments.handler(arguments) == 0
    assert "12 synthetic frames, 220 x 150" in capsys.readouterr().out
    assert (tmp_path / "v.gif").is_file()


def test_another_number_type_rounds_and_no_more(weights, photo):
    exact = generate(photo, str(weights), mark=False).frames[0].astype(int)
    narrow = generate(photo, str(weights), mark=False, dtype=torch.bfloat16).frames[0]
    assert 0 < np.abs(exact - narrow).mean() < 3


def test_one_camera_takes_the_frames_on_request_the_same_each_time_and_told(weights, photo, tmp_path):
    plain, taken = (generate(photo, str(weights), mark=False, camera=camera) for camera in (0, 1))
    again = generate(photo, str(weights), mark=False, camera=1)
    assert (taken.frames == again.frames).all()
    inside = photo.min(axis=2) > 0
    change = taken.frames.astype(int) - plain.frames
    assert change[:, inside].std() > 3
    assert taken.frames[:, ~inside].max() <= plain.frames[:, ~inside].max() + 60
    assert "Camera" not in plain.metadata and taken.metadata["Camera"] == "1"
    about = json.loads((taken.save(tmp_path / "frames") / "video.json").read_text())
    assert about["Camera"] == "1"


@pytest.mark.parametrize("camera", [-1.0, 1.5, float("nan"), float("inf")])
def test_a_camera_that_is_no_share_is_refused(weights, photo, camera):
    with pytest.raises(ConfigError, match="camera"):
        generate(photo, str(weights), camera=camera)
