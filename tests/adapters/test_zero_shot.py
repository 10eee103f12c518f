from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage

import retina_fm
from conftest import disc_picture, saved_generator
from retina_fm import adapters
from retina_fm.encoding.precision import Precision
from retina_fm.errors import ConfigError
from retina_fm.models import load_generator, read_config
from retina_fm.models.folder import write_config
from retina_fm.models.reliability import Reliability
from retina_fm.network import Architecture, Generator
from retina_fm.network.architecture import ANATOMY
from retina_fm.network.masks import field_of_view
from retina_fm.network.unrolling import generate_frames
from retina_fm.pictures import Transform
from retina_fm.vessels.reading import VESSEL_STEPS, read_vessels, vessel_score

TINY = "fundus2video-tiny"


def test_vessels_come_without_fit_in_the_photos_pixels(generator_folder: Path) -> None:
    photos = [disc_picture(1, 96), disc_picture(2, 128)]
    estimator = retina_fm.adapt("segmentation", 0, model=str(generator_folder))
    assert estimator.fit(photos) is estimator
    probabilities, labels = estimator.predict_proba(photos), estimator.predict(photos)
    assert [one.shape for one in probabilities] == [(96, 96), (128, 128)]
    assert all(one.dtype == np.float32 and one.min() >= 0 and one.max() <= 1 for one in probabilities)
    assert all(set(np.unique(one)) == {0, 1} for one in labels)
    assert probabilities[0][0, 0] == 0
    share = labels[1].sum() / (probabilities[1] > 0).sum()
    assert 0.1 < share < 0.14


def test_a_reader_loads_once_and_reads_as_the_maps_do(
    generator_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos = [disc_picture(1, 96), disc_picture(2, 128)]
    wanted = adapters.vessel_maps(photos, str(generator_folder))
    loaded = []

    def counted(name: str) -> Generator:
        loaded.append(name)
        return load_generator(name)

    monkeypatch.setattr("retina_fm.adapters.zero_shot.load_generator", counted)
    read = adapters.vessel_reader(str(generator_folder))
    for photo, one in zip(photos, wanted, strict=True):
        np.testing.assert_array_equal(read(photo), one)
    assert loaded == [str(generator_folder)]


def test_vessels_are_read_in_the_number_type_asked_for(
    generator_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    native = Precision(torch.bfloat16, "made to be native")
    monkeypatch.setattr("retina_fm.adapters.extraction.fastest_precision", lambda _: native)
    photo, model = disc_picture(1, 96), str(generator_folder)
    for dtype in ("float32", "auto"):
        found = retina_fm.adapt("segmentation", 0, model=model, dtype=dtype).predict_proba([photo])[0]
        np.testing.assert_array_equal(found, adapters.vessel_maps([photo], model, dtype=dtype)[0])
        same = np.array_equal(found, adapters.vessel_maps([photo], model, dtype="float32")[0])
        assert same == (dtype == "float32")


def test_a_vessel_map_is_read_in_one_pass_and_frames_otherwise() -> None:
    torch.manual_seed(0)
    view = Transform(size=64).normalise(Transform(size=64).view(disc_picture(4, 96))[0])
    photo = torch.from_numpy(view)[None]
    inside = field_of_view(photo)
    mapped = Generator(Architecture(width=4, encoder_blocks=1, vessels=True)).eval()
    passes: list[object] = []
    handle = mapped.register_forward_hook(lambda *_: passes.append(None))
    found = read_vessels(mapped, photo)
    handle.remove()
    assert len(passes) == 1
    with torch.inference_mode():
        logits = mapped(photo).vessels[0]
    assert logits is not None
    torch.testing.assert_close(found[inside], logits[:, 0].sigmoid()[inside], atol=1e-5, rtol=0)
    assert (found[~inside] == 0).all() and (~inside).any()
    plain = Generator(Architecture(width=4, encoder_blocks=1)).eval()
    frames = generate_frames(plain, photo, VESSEL_STEPS)
    torch.testing.assert_close(read_vessels(plain, photo), vessel_score(frames, inside))
    torch.testing.assert_close(read_vessels(plain, photo, frames * 0.5), vessel_score(frames * 0.5, inside))


def test_a_photo_and_its_mirror_image_have_the_same_vessels(tmp_path: Path) -> None:
    model = str(saved_generator(tmp_path / "mapped", vessels=True))
    photo = disc_picture(6, 128)
    found, mirrored = adapters.vessel_maps([photo, np.ascontiguousarray(photo[:, ::-1])], model)
    assert found.std() > 1e-3
    assert np.abs(found - mirrored[:, ::-1]).mean() < 0.1 * found[found > 0].std()


def test_bright_lines_score_above_what_surrounds_them() -> None:
    frames = torch.full((1, 12, 64, 64), -0.5)
    frames += torch.linspace(-0.3, 0.3, 64)  # uneven light
    frames[:, 2:9, 30:33] += 0.4
    score = vessel_score(frames, torch.ones(1, 64, 64, dtype=torch.bool))[0]
    assert score[30:33].min() > score[:26].max()


def test_lesion_maps_are_named_and_lie_in_the_photo() -> None:
    maps = adapters.lesion_maps([disc_picture(3, 100)], TINY)[0]
    assert set(maps) == set(retina_fm.load(TINY).architecture.lesions)
    assert all(layer.shape == (100, 100) and layer.dtype == np.float32 for layer in maps.values())
    estimator = retina_fm.adapt("segmentation", 0, model=TINY, target="haemorrhage")
    np.testing.assert_array_equal(estimator.predict_proba([disc_picture(3, 100)])[0], maps["haemorrhage"])


def test_lesion_maps_of_a_generator_are_its_decoders(generator_folder: Path) -> None:
    photo = disc_picture(5, 96)
    maps = adapters.lesion_maps([photo], str(generator_folder), dtype="float32")[0]
    generator, transform = load_generator(str(generator_folder)), Transform(size=64)
    view, geometry = transform.view(photo)
    with torch.inference_mode():
        made = generator(torch.from_numpy(transform.normalise(view))[None])
    wanted = geometry.picture_of(made.lesions[0].sigmoid()[0, 1].numpy(), "bilinear")
    inside = geometry.mask_in_picture()
    depth = ndimage.distance_transform_edt(inside)  # the disc ends before the picture does
    np.testing.assert_allclose(maps["haemorrhage"][depth > 6], wanted[depth > 6], atol=1e-5)
    assert (maps["haemorrhage"][~inside] == 0).all()
    assert (wanted[depth == 1] > 0).all() and (maps["haemorrhage"][depth == 1] < wanted[depth == 1]).all()
    loaded = adapters.lesion_maps([photo], retina_fm.load(str(generator_folder)), dtype="float32")[0]
    np.testing.assert_allclose(loaded["haemorrhage"], maps["haemorrhage"], atol=1e-6)


def test_models_that_cannot_show_it_say_so() -> None:
    photo = [disc_picture(0)]
    with pytest.raises(ConfigError, match="without a generator"):
        retina_fm.adapt("segmentation", 0, model=TINY).predict(photo)
    with pytest.raises(ConfigError, match="Did you mean 'drusen'"):
        retina_fm.adapt("segmentation", 0, model=TINY, target="drusn").predict(photo)
    with pytest.raises(ConfigError, match="by name or folder"):
        retina_fm.adapt("segmentation", 0, model=retina_fm.load(TINY)).predict(photo)


def test_arteries_veins_and_disc_come_without_fit(tmp_path: Path) -> None:
    model = str(saved_generator(tmp_path / "anatomy", vessels=True, anatomy=ANATOMY))
    photos = [disc_picture(1, 96), disc_picture(2, 128)]
    found = {
        target: retina_fm.adapt("segmentation", 0, model=model, target=target).predict_proba(photos)
        for target in ("arteries", "veins", "disc")
    }
    for maps in found.values():
        assert [one.shape for one in maps] == [(96, 96), (128, 128)]
        assert all(one.min() >= 0 and one.max() <= 1 and one[0, 0] == 0 for one in maps)
    # arteries and veins share the vessels between them
    encoder = retina_fm.load(model)
    view, geometry = encoder.transform.view(photos[0])
    one = torch.from_numpy(encoder.transform.normalise(view))
    with torch.inference_mode():
        layers = encoder.dense_maps(encoder.maps(torch.stack([one, one.flip(-1)])))["vessel"]
    vessels = geometry.picture_of(((layers[0] + layers[1].flip(-1)) / 2).numpy(), "bilinear")
    inside = geometry.mask_in_picture()
    both = found["arteries"][0] + found["veins"][0]
    np.testing.assert_allclose(both[inside], vessels[inside], atol=0.02)
    labels = retina_fm.adapt("segmentation", 0, model=model, target="veins").predict(photos)
    assert set(np.unique(labels[0])) <= {0, 1}
    with pytest.raises(ConfigError, match="does not map disc"):
        retina_fm.adapt("segmentation", 0, model=TINY, target="disc").predict(photos)


def test_maps_that_fail_their_stated_figures_are_refused(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    photo = [disc_picture(1, 96)]
    folder = saved_generator(tmp_path / "stated", vessels=True, anatomy=ANATOMY)
    retina_fm.adapt("segmentation", 0, model=str(folder), target="drusen").predict(photo)
    assert "nobody measured how far it can be believed. fundus2video states it." in caplog.text
    stated = {
        "drusen": Reliability(on="drawings", healthy_share=0.2, precision=0.1, recall=0.5),
        "scar": Reliability(on="drawings", threshold=0.0, healthy_share=0.0, precision=0.9, recall=0.5),
        "vein": Reliability(on="drawings", balanced_accuracy=0.55),
    }
    write_config(folder, read_config(folder).model_copy(update={"reliability": stated}))
    encoder = retina_fm.load(str(folder))
    for target, figures in (("drusen", "20.00 %"), ("veins", "0.55"), ("haemorrhage", "no reliability")):
        with pytest.raises(ConfigError, match=figures):
            retina_fm.adapt("segmentation", 0, model=encoder, target=target).predict(photo)
        allowed = retina_fm.adapt("segmentation", 0, model=encoder, target=target, allow_unreliable=True)
        assert allowed.predict(photo)[0].shape == (96, 96)
    scars = retina_fm.adapt("segmentation", 0, model=encoder, target="scar").predict(photo)[0]
    assert scars.all(), "the threshold is the one that the model states"
