from __future__ import annotations

import itertools
import json
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import retina_fm
from benchmarks import adapters_common
from conftest import saved_generator
from retina_fm import adapters
from retina_fm._io.strict_json import read_json
from retina_fm.adapters import segmenter as segmenter_module
from retina_fm.adapters.examples.views import working_transform
from retina_fm.adapters.extraction import device_of
from retina_fm.adapters.saving import check_savable
from retina_fm.adapters.segmentation import items as segmentation_items
from retina_fm.adapters.segmentation import training as segmentation_training
from retina_fm.adapters.segmentation.decoder import MapSource
from retina_fm.adapters.segmentation.training import Plan
from retina_fm.errors import ConfigError, OutputError, PictureError
from retina_fm.pictures import Transform
from retina_fm.pictures.masks import dice, pair_by_name

TINY = "fundus2video-tiny"
Spots = tuple[list[np.ndarray], list[np.ndarray]]


def segmenter(**settings: Any) -> adapters.FundusSegmenter:
    return retina_fm.adapt("segmentation", model=TINY, **{"steps": 30, "progress": False, **settings})


@pytest.fixture(scope="module")
def fitted(spots: Spots) -> adapters.FundusSegmenter:
    photos, masks = spots
    return segmenter(shots=2).fit(photos[:4], masks[:4])


def test_two_examples_are_enough_to_find_white_discs(fitted: adapters.FundusSegmenter, spots: Spots) -> None:
    photos, masks = spots
    assert fitted.score(photos[4:], masks[4:]) > 0.8
    assert len(fitted.drawn_) == 2
    assert 0 < fitted.threshold_ < 1
    assert list(fitted.classes_) == [0, 255]
    assert fitted.history_[-1]["step"] == 30


def test_masks_and_probabilities_lie_in_the_photos_own_pixels(
    fitted: adapters.FundusSegmenter, spots: Spots
) -> None:
    wide = np.zeros((150, 260, 3), np.uint8)
    wide[30:126, 100:196] = spots[0][4]
    label, probability = fitted.predict([wide])[0], fitted.predict_proba([wide])[0]
    assert (label.shape, label.dtype) == ((150, 260), np.uint8)
    assert (probability.shape, probability.dtype) == ((150, 260), np.float32)
    wanted = np.zeros((150, 260), bool)
    wanted[30:126, 100:196] = spots[1][4] > 0
    assert dice(label > 0, wanted) > 0.7
    assert not label[:20].any()


def test_an_adapter_predicts_the_same_bits_in_a_fresh_process(
    fitted: adapters.FundusSegmenter, spots: Spots, tmp_path: Path
) -> None:
    fitted.save(tmp_path / "adapter")
    Image.fromarray(spots[0][5]).save(tmp_path / "photo.png")
    code = (
        "import sys, numpy as np, torch; torch.set_num_threads(int(sys.argv[2]))\n"
        "from retina_fm import adapters\n"
        "folder = sys.argv[1]\n"
        "found = adapters.load(folder + '/adapter').predict_proba([folder + '/photo.png'])[0]\n"
        "np.save(folder + '/found.npy', found)"
    )
    import torch

    threads = str(torch.get_num_threads())
    subprocess.run([sys.executable, "-c", code, str(tmp_path), threads], check=True, env=_environment())
    again = fitted.predict_proba([tmp_path / "photo.png"])[0]
    np.testing.assert_array_equal(np.load(tmp_path / "found.npy"), again)


def _environment() -> dict[str, str]:
    import os

    root = str(Path(__file__).resolve().parent.parent.parent)
    return {**os.environ, "PYTHONPATH": root}


def test_the_same_seed_gives_the_same_decoder(spots: Spots) -> None:
    photos, masks = spots
    first, second = (segmenter(shots=1, steps=2).fit(photos, masks) for _ in range(2))
    for one, other in zip(first.module_.parameters(), second.module_.parameters(), strict=True):
        assert one.equal(other)


def test_several_classes_give_a_probability_each(spots: Spots) -> None:
    photos, masks = spots
    three = [np.where(mask > 0, 2, 0).astype(np.uint8) for mask in masks]
    for mask in three:
        mask[:12] = 1
    fitted = segmenter(steps=3).fit(photos[:2], three[:2])
    assert list(fitted.classes_) == [0, 1, 2]
    probability = fitted.predict_proba(photos[2:3])[0]
    assert probability.shape == (96, 96, 3)
    np.testing.assert_allclose(probability.sum(2), 1, atol=1e-5)
    assert probability[0, 0].argmax() == 0


def test_more_examples_get_more_steps(spots: Spots, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    whole = segmenter_module.train_decoder

    def short(decoder: Any, maker: Any, plan: Plan, **rest: Any) -> Any:
        asked.append(plan.steps)
        return whole(decoder, maker, replace(plan, steps=1), **rest)

    monkeypatch.setattr(segmenter_module, "train_decoder", short)
    for steps, photos in ((None, 1), (None, 4), (7, 4)):
        segmenter(steps=steps).fit(spots[0][:photos], spots[1][:photos])
    assert asked == [1000, 1414, 7]


def test_larger_views_are_cut_into_tiles_and_blended(spots: Spots) -> None:
    photos, masks = spots
    fitted = segmenter(view_size=192, steps=2, test_flips=True).fit(photos[:2], masks[:2])
    assert fitted.predict_proba(photos[2:3])[0].shape == (96, 96)
    with pytest.raises(ConfigError, match="multiple of 16 from 128"):
        segmenter(view_size=100).fit(photos, masks)


def test_the_encoder_may_be_trained_along(spots: Spots, tmp_path: Path) -> None:
    photos, masks = spots
    fitted = segmenter(tune="all", steps=3, dtype="float32").fit(photos[:2], masks[:2])
    base = dict(retina_fm.load(TINY).named_parameters())
    assert any(not p.equal(base[name]) for name, p in fitted.tuned_.named_parameters())
    fitted.save(tmp_path / "tuned")
    again = adapters.load(tmp_path / "tuned")
    np.testing.assert_array_equal(again.predict_proba(photos[:1])[0], fitted.predict_proba(photos[:1])[0])


@pytest.fixture
def ticking(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock of training that goes on by a second each time it is looked at, twice a step."""
    ticks = itertools.count()
    monkeypatch.setattr(segmentation_training, "time", SimpleNamespace(monotonic=lambda: next(ticks)))


@pytest.mark.usefixtures("ticking")
def test_training_stops_with_a_last_look_when_its_time_is_over(spots: Spots) -> None:
    photos, masks = spots
    fitted = segmenter(steps=100_000, max_seconds=20).fit(
        photos[:1], masks[:1], val=(photos[1:2], masks[1:2])
    )
    (look,) = fitted.history_
    assert look["step"] == 10 and look["seconds"] == 21 and 0 <= look["dice"] <= 1


@pytest.mark.usefixtures("ticking")
def test_a_time_that_is_over_before_the_first_step_is_refused(spots: Spots) -> None:
    with pytest.raises(ConfigError, match=r"max_seconds=0\.5 were over before the first step: .* 8 views"):
        segmenter(max_seconds=0.5).fit(spots[0][:1], spots[1][:1])


def test_eight_photos_and_more_give_a_validation_part_and_an_early_stop(spots: Spots) -> None:
    photos, masks = spots[0] * 2, spots[1] * 2
    fitted = segmenter(steps=4).fit(photos, masks, groups=np.arange(12))
    assert 0 <= fitted.history_[0]["dice"] <= 1


def coarse(mask: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(mask).resize((48, 48)))


def grey(mask: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(mask).resize((24, 24)).resize((96, 96), Image.Resampling.BILINEAR))


@pytest.mark.parametrize(
    ("settings", "change", "message"),
    [
        ({}, lambda masks: [coarse(mask) for mask in masks], "48 x 48 pixels, the photo 96 x 96"),
        ({}, lambda masks: [grey(mask) for mask in masks], "grey values.*mask_threshold=127"),
        ({}, lambda masks: [mask / 300 for mask in map(grey, masks)], "grey values.*mask_threshold=0.5"),
        ({}, lambda masks: [mask * 0 for mask in masks], "nothing to tell apart"),
        ({"mask_threshold": 300}, lambda masks: masks, "No mask has a value above"),
        ({}, lambda masks: masks[:3], "6 photos and 3 masks"),
        ({}, lambda _: None, "Masks are missing"),
        ({}, lambda masks: [np.stack([mask, mask * 0, mask], 2) for mask in masks], "coloured"),
        ({"classes": [0, 1]}, lambda masks: masks, "value 255, which is none of the classes"),
        ({"classes": [255]}, lambda masks: masks, "give two different mask values"),
        ({"steps": 0}, lambda masks: masks, "both are above 0"),
        ({"max_seconds": 0}, lambda masks: masks, "both are above 0"),
        ({"shots": 7}, lambda masks: masks, "6 examples of 6 patients, 7 shots"),
        ({"decoder": "heavy"}, lambda masks: masks, "Unknown decoder"),
        ({"tune": "none"}, lambda masks: masks, "tune is 'none'"),
    ],
)
def test_masks_that_cannot_be_learnt_from_are_refused(
    spots: Spots, settings: dict[str, Any], change: Any, message: str
) -> None:
    photos, masks = spots
    with pytest.raises(ConfigError, match=message):
        segmenter(**settings).fit(photos, change(masks))


def test_a_missing_mask_file_is_named(spots: Spots) -> None:
    with pytest.raises(PictureError, match=r"nowhere\.png.*no such file"):
        segmenter().fit(spots[0][:1], ["nowhere.png"])


def test_smoothed_masks_are_taken_with_a_threshold(spots: Spots) -> None:
    photos, masks = spots
    fitted = segmenter(mask_threshold=127, steps=2).fit(photos[:1], [grey(masks[0])])
    assert list(fitted.classes_) == [0, 1]


def test_one_empty_mask_among_others_warns_once(spots: Spots) -> None:
    photos, masks = spots
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        segmenter(steps=1).fit(photos[:2], [masks[0], masks[1] * 0])
    assert [str(one.message) for one in caught if "no foreground" in str(one.message)] == [
        "1 masks have no foreground (#1); they count as pictures without any."
    ]


def test_a_patient_in_both_parts_is_refused(spots: Spots) -> None:
    photos, masks = spots
    with pytest.raises(ConfigError, match=r"in the training and the validation part \(b\)"):
        segmenter().fit(photos[:2], masks[:2], groups=["a", "b"], val=(photos[2:3], masks[2:3], ["b"]))


def test_folders_are_matched_by_name(spots: Spots, tmp_path: Path) -> None:
    photos, masks = spots
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    for number in (1, 2, 10):
        Image.fromarray(photos[number % 6]).save(tmp_path / "images" / f"eye{number}.png")
        Image.fromarray(masks[number % 6]).save(tmp_path / "masks" / f"eye{number}_manual.png")
    pairs = adapters.pair_by_name(
        sorted((tmp_path / "images").iterdir()), sorted((tmp_path / "masks").iterdir())
    )
    assert all(mask.name.startswith(f"{photo.stem}_") for photo, mask in pairs)
    (tmp_path / "masks" / "eye1_manual.png").unlink()
    with pytest.raises(ConfigError, match=r"no mask of that name\. Name it eye1"):
        segmenter().fit(tmp_path / "images", tmp_path / "masks")


def test_the_benchmarks_network_from_scratch_is_trained_by_the_same_loop(
    spots: Spots, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Small(torch.nn.Module):
        def __init__(self, outputs: int) -> None:
            super().__init__()
            self.layer = torch.nn.Conv2d(3, outputs, 3, padding=1)

        def forward(self, view: torch.Tensor, _: object) -> torch.Tensor:
            return self.layer(view)

    monkeypatch.setattr(adapters_common, "_WholeUnet", Small)
    fitted = adapters_common.ScratchUnet(TINY, steps=1, progress=False).fit(spots[0][:1], spots[1][:1])
    assert isinstance(fitted.module_, Small) and fitted.predict(spots[0][1:2])[0].shape == (96, 96)


def test_another_encoder_in_its_place_is_refused(
    fitted: adapters.FundusSegmenter, other_tiny: Path, tmp_path: Path
) -> None:
    fitted.save(tmp_path / "adapter")
    with (
        warnings.catch_warnings(),
        pytest.raises(retina_fm.errors.WeightsError, match="fit the adapter again"),
    ):
        warnings.simplefilter("ignore", retina_fm.errors.LicenceNotice)  # said once a process
        adapters.load(tmp_path / "adapter", model=str(other_tiny))
    manifest = json.dumps(read_json(tmp_path / "adapter" / "adapter.json"))
    (tmp_path / "adapter" / "adapter.json").write_text(
        manifest.replace(fitted.encoders_[0].transform_hash, "0" * 16)
    )
    with pytest.raises(retina_fm.errors.TransformMismatchError, match="its views differ"):
        adapters.load(tmp_path / "adapter")


def test_a_damaged_adapter_is_refused(fitted: adapters.FundusSegmenter, tmp_path: Path) -> None:
    folder = fitted.save(tmp_path / "adapter")
    data = bytearray((folder / "adapter.safetensors").read_bytes())
    data[-1] ^= 1
    (folder / "adapter.safetensors").write_bytes(bytes(data))
    with pytest.raises(retina_fm.errors.WeightsError, match="changed or damaged"):
        adapters.load(folder)
    (folder / "adapter.json").write_text("{}")
    with pytest.raises(ConfigError, match="format 1"):
        adapters.load(folder)
    with pytest.raises(ConfigError, match="no adapter"):
        adapters.load(tmp_path)
    with pytest.raises(ConfigError, match="not fitted"):
        segmenter().save(tmp_path / "nothing")


def test_classes_are_taken_in_the_order_given(spots: Spots) -> None:
    photos, masks = spots
    fitted = segmenter(classes=[0, 255], steps=25).fit(photos[:1], masks[:1])
    turned = segmenter(classes=[255, 0], steps=25).fit(photos[:1], masks[:1])
    assert list(turned.classes_) == [255, 0]
    inside = masks[0] > 0
    assert fitted.predict_proba(photos[:1])[0][inside].mean() > 0.5
    assert turned.predict_proba(photos[:1])[0][inside].mean() < 0.5


def test_photos_that_do_not_fit_into_memory_are_all_seen(
    spots: Spots, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: set[int] = set()
    make = segmentation_items.ItemMaker.make

    def counted(self: Any, index: int, **rest: Any) -> Any:
        seen.add(index)
        return make(self, index, **rest)

    monkeypatch.setattr(segmentation_items.ItemMaker, "make", counted)
    photos, masks = spots[0] * 5, spots[1] * 5
    segmenter(steps=33, memory_gb=1e-3, validation=0).fit(photos, masks)
    assert len(seen) == 30
    with pytest.warns(UserWarning, match="of the 30 photos; raise steps"):
        segmenter(steps=3, memory_gb=1e-3, validation=0).fit(photos, masks)


def test_the_encoder_goes_back_to_the_best_look_too(spots: Spots, monkeypatch: pytest.MonkeyPatch) -> None:
    photos, masks = spots
    looks: list[dict[str, Any]] = []

    def worse(self: Any, *_: Any) -> float:
        looks.append({name: p.detach().clone() for name, p in self.tuned_.named_parameters()})
        return 1.0 / len(looks)

    monkeypatch.setattr(adapters.FundusSegmenter, "_dice", worse)
    fitted = segmenter(tune="all", steps=75, dtype="float32")
    fitted.fit(photos[:2], masks[:2], val=(photos[2:3], masks[2:3]))
    assert len(looks) == 3
    now = dict(fitted.tuned_.named_parameters())
    assert all(torch.equal(now[name], value) for name, value in looks[0].items())
    assert any(not torch.equal(now[name], value) for name, value in looks[-1].items())


def test_validation_photos_without_patients_are_taken_beside_groups(spots: Spots) -> None:
    photos, masks = spots
    segmenter(steps=2).fit(photos[:2], masks[:2], groups=[0, 1], val=(photos[2:4], masks[2:4], None))


def test_a_loaded_encoder_stays_where_it_is() -> None:
    encoder = retina_fm.load(TINY).to("meta")
    assert device_of(encoder).type == "meta"
    assert device_of(retina_fm.load(TINY)).type == "cpu"


def test_an_encoder_of_an_odd_size_is_refused_in_plain_words() -> None:
    with pytest.raises(ConfigError, match="392 pixels is no multiple of 16"):
        working_transform(Transform(size=392), None)


def test_masks_are_paired_by_name(tmp_path: Path) -> None:
    photos = [tmp_path / "a.png", tmp_path / "a_left.png"]
    with pytest.raises(ConfigError, match=r"a\.png: no mask of that name"):
        pair_by_name(photos, [tmp_path / "a_left.png"])
    both = [tmp_path / "a_mask.png", tmp_path / "a_left_mask.png"]
    assert pair_by_name(photos, both) == list(zip(photos, both, strict=True))
    assert pair_by_name([photos[0]] * 2, both[:1]) == [(photos[0], both[0])] * 2
    with pytest.raises(ConfigError, match="2 masks"):
        pair_by_name(photos, [*both, tmp_path / "a_2.png"])
    with pytest.raises(ConfigError, match="have one name"):
        pair_by_name([photos[0], tmp_path / "b" / "a.png"], both)
    with pytest.raises(ConfigError, match="have file names"):
        pair_by_name([np.zeros((8, 8, 3))], both)


def test_nothing_is_saved_where_nothing_is_learnt(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no adapter to save"):
        adapters.save(segmenter(shots=0), tmp_path / "none")
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="is a file"):
        check_savable(segmenter(), tmp_path / "file", None)


def test_a_decoder_is_guided_by_the_vessels_that_its_encoder_sees(spots: Spots, tmp_path: Path) -> None:
    model = str(saved_generator(tmp_path / "mapped", vessels=True))
    encoder = retina_fm.load(model)
    views = torch.rand(2, 3, 64, 64) * 2 - 1
    maps = MapSource(encoder).maps(views)
    assert maps[-1].shape == (2, MapSource(encoder).guides, 64, 64) == (2, 3, 64, 64)
    torch.testing.assert_close(maps[-1][:, 1:2], encoder.vessels(encoder.maps(views)))
    assert float(maps[-1][:, 2].min()) >= 0 and float((maps[-1][:, 1] - maps[-1][:, 2]).abs().mean()) > 1e-4
    assert MapSource(retina_fm.load(TINY)).guides == 1
    photos, masks = spots
    settings: dict[str, Any] = {"model": model, "shots": 2, "steps": 20, "progress": False}
    fitted = retina_fm.adapt("segmentation", **settings).fit(photos[:4], masks[:4])
    fitted.save(tmp_path / "adapter")
    again = adapters.load(tmp_path / "adapter")
    np.testing.assert_array_equal(again.predict_proba(photos[4:5])[0], fitted.predict_proba(photos[4:5])[0])
