"""Preparing an eye keeps to the photo's pixels, is cached, atomic and says what is wrong."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from retina_fm.errors import ConfigError, NoPicturesError, OutputError, PictureError
from retina_fm.pictures.masks import find_mask
from retina_fm.training import draw_retina, prepare_eye, prepare_view
from retina_fm.training.pretraining.data.sources import check_data
from retina_fm.training.simulator.eyes.arrival import distance_along
from retina_fm.training.simulator.eyes.lesion_folders import lesion_folders
from retina_fm.training.simulator.eyes.prepare_folder import prepare_drawn_folder, prepare_folder
from retina_fm.training.simulator.eyes.prepared import MAPS, load_eye


@pytest.fixture
def folder(tmp_path, drawn_retinas):
    for i, retina in enumerate(drawn_retinas[:2]):
        for name in ("photos", "vessels", "arteries", "veins"):
            (tmp_path / name).mkdir(exist_ok=True)
        Image.fromarray(retina.photo).save(tmp_path / "photos" / f"{i}.png")
        for name in ("vessels", "arteries", "veins"):
            mask = (getattr(retina, name) * 255).astype(np.uint8)
            Image.fromarray(mask).save(tmp_path / name / f"{i}_manual.png")
    return tmp_path


def test_drawn_truth_arrives_in_the_eye(drawn_retinas, prepared_eyes):
    for retina, eye in zip(drawn_retinas, prepared_eyes, strict=True):
        assert eye.maps.shape == (len(MAPS), 256, 256)
        assert np.abs(eye.map("artery") - retina.arteries).max() < 0.01
        assert np.abs(eye.map("vein") - retina.veins).max() < 0.01
        assert eye.lesion_known.all()
        assert eye.disc_centre == retina.disc_centre
        assert (eye.photo[retina.field_of_view] == retina.photo[retina.field_of_view]).all()


def test_delay_grows_along_arteries(prepared_eyes):
    for eye in prepared_eyes:
        on = (eye.map("artery") > 0.8) & (eye.map("disc") < 0.05)
        y, x = np.nonzero(on)
        distance = np.hypot(y - eye.disc_centre[0], x - eye.disc_centre[1]) / eye.radius
        delay = eye.map("artery_delay")[y, x]
        assert np.corrcoef(distance, delay)[0, 1] > 0.8
        assert (delay > distance - eye.disc_radius / eye.radius - 0.08).mean() > 0.95


def test_a_winding_vessel_takes_longer_than_the_straight_line():
    size = 256
    path = np.zeros((size, size), np.float32)
    path[100, 60:200] = path[100:160, 200] = path[160, 60:201] = 1
    path = ndimage.maximum_filter(path, 3)
    delay = distance_along(path, np.ones((size, size), bool), (100.0, 60.0), 6.0, 128.0)
    assert delay[160, 190] > delay[100, 190]
    assert delay[160, 100] <= 1.5 * np.hypot(60, 40) / 128 + 0.1


def test_the_axis_is_in_the_middle(prepared_eyes):
    eye = prepared_eyes[0]
    wide = (eye.map("calibre") > 0.009) & (eye.map("vein") > 0.9)
    assert wide.sum() > 20
    assert (
        eye.map("axis")[wide].mean()
        > eye.map("axis")[(eye.map("vein") > 0.3) & (eye.map("vein") < 0.6)].mean()
    )


def test_masks_follow_the_photo_into_its_view():
    retina = draw_retina(5, 320, lesions={"haemorrhage": 5})
    padded = np.pad(retina.photo, ((40, 10), (70, 30), (0, 0)))
    vessels = np.pad(retina.vessels, ((40, 10), (70, 30)))
    blood = np.pad(retina.lesions["haemorrhage"], ((40, 10), (70, 30)))
    eye = prepare_eye(padded, vessels=vessels, lesions={"haemorrhage": blood}, size=256)
    assert eye.size == 256
    green = eye.photo[..., 1].astype(float)
    inside = eye.field_of_view & (eye.map("disc") < 0.05)
    both = eye.map("artery") + eye.map("vein")
    assert green[inside & (both > 0.8)].mean() < 0.9 * green[inside & (both < 0.05)].mean()
    assert green[eye.map("haemorrhage") > 0.8].mean() < 0.8 * green[inside & (both < 0.05)].mean()
    assert eye.lesion_known.tolist() == [False, True, False, False, False, False]


def test_a_folder_is_prepared_once(folder, tmp_path):
    first = prepare_folder(
        folder / "photos", tmp_path / "eyes", vessels=folder / "vessels", size=128, workers=1
    )
    assert (first.made, first.reused, first.failed) == (2, 0, [])
    stamp = [p.stat().st_mtime_ns for p in first.eyes]
    second = prepare_folder(
        folder / "photos", tmp_path / "eyes", vessels=folder / "vessels", size=128, workers=1
    )
    assert (second.made, second.reused) == (0, 2)
    assert [p.stat().st_mtime_ns for p in second.eyes] == stamp
    other = prepare_folder(
        folder / "photos",
        tmp_path / "eyes",
        arteries=folder / "arteries",
        veins=folder / "veins",
        size=128,
        workers=1,
    )
    assert other.made == 2
    assert not list((tmp_path / "eyes").glob(".*.part"))


def test_worker_processes_give_the_same_eyes(folder, tmp_path):
    one = prepare_folder(folder / "photos", tmp_path / "a", size=128, workers=1)
    two = prepare_folder(folder / "photos", tmp_path / "b", size=128, workers=2)
    assert [p.read_bytes() for p in one.eyes] == [p.read_bytes() for p in two.eyes]


def test_broken_photos_and_missing_masks_are_listed(folder, tmp_path):
    (folder / "photos" / "broken.png").write_bytes(b"not a picture")
    (folder / "vessels" / "broken.png").write_bytes(b"nor this")
    Image.new("RGB", (64, 64), (90, 40, 20)).save(folder / "photos" / "lonely.png")
    report = prepare_folder(
        folder / "photos", tmp_path / "eyes", vessels=folder / "vessels", size=128, workers=1
    )
    assert report.made == 2
    reasons = dict(report.failed)
    assert len(reasons) == 2
    assert "no vessels mask" in reasons[str(folder / "photos" / "lonely.png")]
    assert "broken.png" in reasons[str(folder / "photos" / "broken.png")]


def test_wrong_folders_are_named(folder, tmp_path):
    with pytest.raises(ConfigError, match="veins"):
        prepare_folder(folder / "photos", tmp_path / "eyes", arteries=folder / "arteries")
    with pytest.raises(ConfigError, match="not there"):
        prepare_folder(folder / "photos", tmp_path / "eyes", vessels=tmp_path / "nowhere")
    with pytest.raises(ConfigError, match="named after a lesion"):
        lesion_folders(folder)
    (tmp_path / "empty").mkdir()
    with pytest.raises(NoPicturesError):
        prepare_folder(tmp_path / "empty", tmp_path / "eyes")


def test_a_black_lesion_mask_means_that_there_is_none(folder, tmp_path):
    (folder / "lesions" / "haemorrhages").mkdir(parents=True)
    for i in range(2):
        Image.new("L", (256, 256)).save(folder / "lesions" / "haemorrhages" / f"{i}.png")
    report = prepare_folder(
        folder / "photos", tmp_path / "eyes", lesions=folder / "lesions", size=128, workers=1
    )
    assert report.failed == []
    eye = load_eye(report.eyes[0])
    assert eye.lesion_known.sum() == 1
    assert eye.lesions.max() == 0


def test_lesion_folders_go_by_their_usual_names(tmp_path):
    for name in ("haemorrhages", "soft_exudates"):
        (tmp_path / name).mkdir()
    assert set(lesion_folders(tmp_path)) == {"haemorrhage", "cotton_wool_spot"}


def test_masks_are_found_by_stem(tmp_path):
    for name in ("im1.png", "im10.png", "im2_1stHO.png"):
        (tmp_path / name).touch()
    assert find_mask(tmp_path, tmp_path / "im1.jpg") == tmp_path / "im1.png"
    assert find_mask(tmp_path, tmp_path / "im2.jpg") == tmp_path / "im2_1stHO.png"
    assert find_mask(tmp_path, tmp_path / "im3.jpg") is None


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        ({"vessels": np.zeros((10, 10), np.float32)}, "vessels"),
        ({"arteries": np.zeros((128, 128), np.float32)}, "veins"),
        ({"lesions": {"exudate": np.zeros((128, 128), np.float32)}}, "hard_exudate"),
    ],
)
def test_maps_that_do_not_fit_are_named(arguments, hint):
    view = draw_retina(0, 128, lesions={}).photo
    with pytest.raises(ConfigError, match=hint):
        prepare_view(view, **arguments)


def test_masks_of_another_size_than_the_photo_are_refused():
    with pytest.raises(ConfigError, match="own pixels"):
        prepare_eye(draw_retina(0, 128, lesions={}).photo, vessels=np.zeros((64, 64), bool))


def test_damaged_eyes_say_how_to_make_them_again(prepared_eyes, tmp_path):
    path = tmp_path / "a.eye.safetensors"
    prepared_eyes[0].save(path)
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(PictureError, match="retina-fm prepare"):
        load_eye(path)


def test_a_failed_write_leaves_nothing(prepared_eyes, tmp_path):
    (tmp_path / "blocked").write_text("a file where a folder should be")
    with pytest.raises(OutputError, match="cannot be written"):
        prepared_eyes[0].save(tmp_path / "blocked" / "a.eye.safetensors")
    assert [p.name for p in tmp_path.iterdir()] == ["blocked"]


def test_drawn_eyes_are_prepared_once(tmp_path):
    first = prepare_drawn_folder(2, tmp_path, size=96, workers=1)
    assert (first.made, first.reused) == (2, 0)
    assert prepare_drawn_folder(3, tmp_path, size=96, workers=1).made == 1
    assert load_eye(first.eyes[0]).lesion_known.all()
    with pytest.raises(ConfigError, match="1 or more"):
        prepare_drawn_folder(0, tmp_path)


def test_healthy_photos_have_known_absence(drawn_retinas):
    eye = prepare_eye(drawn_retinas[0].photo, size=128, healthy=True)
    assert eye.lesion_known.all()
    assert eye.lesions.max() == 0
    assert not prepare_eye(drawn_retinas[0].photo, size=128).lesion_known.any()


def test_photos_that_share_a_name_are_refused_where_masks_go_by_it(folder, tmp_path):
    (folder / "photos" / "more").mkdir()
    for source, name in (("1.png", "0.png"), ("1.png", "1.png")):
        (folder / "photos" / "more" / name).write_bytes((folder / "photos" / source).read_bytes())
    report = prepare_folder(folder / "photos", tmp_path / "a", vessels=folder / "vessels", size=96, workers=1)
    assert report.made == 1  # the copy of 1.png is one photo with it
    assert {reason.split(",")[0] for _, reason in report.failed} == {"2 photos are called 0"}
    assert len(report.failed) == 2
    assert prepare_folder(folder / "photos", tmp_path / "b", size=96, workers=1).made == 3


def test_preparing_again_replaces_the_eye_of_a_photo_and_no_other(folder, tmp_path):
    out, photo = tmp_path / "eyes", folder / "photos" / "0.png"
    (first,) = prepare_folder(photo, out, size=96, workers=1).eyes
    stranger = out / "0-0123456789ab.eye.safetensors"
    prepare_eye(draw_retina(5, 96, lesions={}).photo, size=96).save(stranger)
    (second,) = prepare_folder(photo, out, vessels=folder / "vessels", size=96, workers=1).eyes
    assert second != first
    assert sorted(out.glob("*.eye.safetensors")) == sorted([second, stranger])


def test_two_eyes_of_one_photo_are_reported(prepared_eyes, tmp_path):
    eye = dataclasses.replace(prepared_eyes[0], metadata={"photo_sha256": "same"})
    for name in ("a", "b"):
        eye.save(tmp_path / f"{name}.eye.safetensors")
    report = check_data(tmp_path)
    assert ["of one photo" in str(p) for p in report.problems] == [True]
    assert report.items == 1


def test_a_coloured_lesion_mask_covers_as_much_as_a_white_one(folder, tmp_path):
    mask = Image.new("RGB", (256, 256))
    mask.paste((200, 0, 0), (100, 100, 140, 140))
    (folder / "lesions" / "2. Haemorrhages").mkdir(parents=True)
    mask.save(folder / "lesions" / "2. Haemorrhages" / "0.png")
    report = prepare_folder(
        folder / "photos" / "0.png", tmp_path / "eyes", lesions=folder / "lesions", size=96, workers=1
    )
    assert load_eye(report.eyes[0]).map("haemorrhage").max() == pytest.approx(1)


def test_a_black_vessel_mask_is_a_failed_photo(folder, tmp_path):
    Image.new("L", (256, 256)).save(folder / "vessels" / "0.png")
    report = prepare_folder(
        folder / "photos", tmp_path / "eyes", vessels=folder / "vessels", size=96, workers=1
    )
    assert report.made == 1
    assert "vessels mask is black" in report.failed[0][1]


def test_no_workers_and_an_output_that_is_a_file_are_refused(folder, tmp_path):
    with pytest.raises(ConfigError, match="workers"):
        prepare_folder(folder / "photos", tmp_path / "eyes", workers=-1)
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="output folder"):
        prepare_folder(folder / "photos", tmp_path / "file")
    with pytest.raises(OutputError, match="output folder"):
        prepare_drawn_folder(1, tmp_path / "file", size=96)
