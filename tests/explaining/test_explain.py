"""Heat maps: they point at what decides, in the photo's own pixels, and follow the weights."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from explaining.planted import EXUDATE, plain, planted, pointed_at
from PIL import Image

from conftest import disc_picture
from retina_fm._io.progress import progress_bar
from retina_fm.adapters import FundusClassifier, FundusRegressor, FundusSegmenter
from retina_fm.adapters.heads import by_name
from retina_fm.errors import ConfigError, MissingDependencyError, OutputError
from retina_fm.explaining import HeatMap, explain, write_heat_maps
from retina_fm.explaining.background import background_of
from retina_fm.explaining.evidence import target_of
from retina_fm.explaining.heat_map import heat_colours
from retina_fm.explaining.methods import grids
from retina_fm.pictures import Transform

TINY = "fundus2video-tiny"
SIZE = 128


class SeesYellow(torch.nn.Module):
    """An encoder of which it is known what it looks at: the yellowest place, and the light of the whole."""

    num_features = 2
    transform = Transform(size=64)

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))

    def embed(self, view: torch.Tensor) -> torch.Tensor:
        yellow = torch.nn.functional.avg_pool2d((view[:, 0] + view[:, 1])[:, None] / 2, 5, 1)
        return self.weight * torch.stack([yellow.amax((1, 2, 3)), view.mean((1, 2, 3))], 1)


class Estimator:
    """A head that was really fitted, over the encoder above."""

    task = "classification"

    def __init__(self, head: Any) -> None:
        self.encoder = SeesYellow()
        self.head_ = head

    @property
    def classes_(self) -> np.ndarray:
        return np.asarray(self.head_.classes_)

    def embed(self, photos: list[np.ndarray]) -> np.ndarray:
        views = torch.stack([self.encoder.transform(photo) for photo in photos])
        return np.asarray(self.encoder.embed(views).detach().double().numpy())

    def loaded_encoders(self) -> list[Any]:
        return [self.encoder]


def spotted(seed: int) -> tuple[np.ndarray, tuple[int, int]]:
    """A disc picture with a yellow square in a frame that is no square, and the square's centre."""
    random = np.random.Generator(np.random.PCG64(seed))
    y, x = (int(value) for value in random.integers(45, 85, 2))
    frame = np.zeros((140, 180, 3), np.uint8)
    frame[6:134, 26:154] = disc_picture(seed) // 2
    frame[y : y + 8, x + 20 : x + 28] = EXUDATE
    return frame, (y + 4, x + 24)


@pytest.fixture(scope="module")
def sees_yellow() -> Estimator:
    estimator = Estimator(None)
    photos = [disc_picture(seed) // 2 for seed in range(8)] + [spotted(seed)[0] for seed in range(8)]
    estimator.head_ = by_name.CLASSIFIERS["linear"](C=0.1).fit(
        estimator.embed(photos), ["no"] * 8 + ["yes"] * 8
    )
    return estimator


@pytest.fixture(scope="module")
def tiny() -> FundusClassifier:
    photos = [disc_picture(seed) for seed in range(12)]
    return FundusClassifier(TINY, head="linear", progress=False).fit(photos, ["a", "b"] * 6)


@pytest.mark.parametrize("method", ["occlusion", "gradients"])
def test_what_decides_is_pointed_at_in_the_photos_own_pixels(sees_yellow: Estimator, method: Any) -> None:
    for seed in range(20, 25):
        photo, place = spotted(seed)
        found = explain(sees_yellow, photo, method)
        assert (found.target, found.method) == ("yes", method)
        assert found.heat.shape == photo.shape[:2]
        assert pointed_at(found.peak, place, 16)
        assert found.heat.max() > 10 * -found.heat.min()


def test_hidden_evidence_is_what_the_log_odds_lose(sees_yellow: Estimator) -> None:
    photo, _ = spotted(30)
    view, geometry = sees_yellow.encoder.transform.view(photo)
    background = background_of(view, geometry.mask_in_view())
    odds = [
        float(
            sees_yellow.head_.decision_function(sees_yellow.encoder.embed(one).detach().double().numpy())[0]
        )
        for one in (torch.from_numpy(SeesYellow.transform.normalise(v))[None] for v in (view, background))
    ]
    heat = explain(sees_yellow, photo, windows=2).heat
    assert 0.4 * (odds[0] - odds[1]) < heat.max() <= 1.1 * (odds[0] - odds[1])


@pytest.mark.parametrize("method", ["occlusion", "gradients"])
def test_a_bar_counts_the_views_it_announced(
    sees_yellow: Estimator, method: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    bars = []

    def watched(progress: Any, total: int, note: str, **more: Any) -> Any:
        bars.append((total, progress_bar(False, total, note, **more)))
        counted = bars[-1][1]
        counted.seen = 0
        monkeypatch.setattr(counted, "update", lambda n: setattr(counted, "seen", counted.seen + n))
        return counted

    monkeypatch.setattr("retina_fm.explaining.explanation.progress_bar", watched)
    explain(sees_yellow, spotted(30)[0], method)
    ((total, bar),) = bars
    assert bar.seen == total > 10


def test_a_map_of_the_other_class_is_its_mirror_image(sees_yellow: Estimator) -> None:
    photo, _ = spotted(31)
    for_yes, for_no = (explain(sees_yellow, photo, target=name).heat for name in ("yes", "no"))
    assert np.allclose(for_yes, -for_no, atol=1e-4)


@pytest.mark.parametrize("method", ["occlusion", "gradients"])
def test_random_weights_change_the_map(tiny: FundusClassifier, method: Any) -> None:
    photo = disc_picture(40)
    other = copy.copy(tiny)
    other.tuned_ = copy.deepcopy(tiny.loaded_encoders()[0]).float()
    random = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in other.tuned_.model.parameters():
            parameter.copy_(parameter.std() * torch.randn(parameter.shape, generator=random))
    maps = [explain(one, photo, method, target="a", windows=4).heat for one in (tiny, other, tiny)]
    inside = maps[0] != 0
    assert np.allclose(maps[0], maps[2], atol=1e-5)
    assert abs(np.corrcoef(maps[0][inside], maps[1][inside])[0, 1]) < 0.7


def test_a_regressors_measurement_is_explained() -> None:
    photos = [disc_picture(seed) for seed in range(8)]
    regressor = FundusRegressor(TINY, head="linear", progress=False).fit(photos, np.arange(8.0))
    found = explain(regressor, photos[0], windows=4)
    assert found.target == "value"
    assert found.predicted.startswith("value ")
    assert np.isfinite(found.heat).all()
    assert found.heat.std() > 0


def test_windows_cover_the_field_and_nothing_outside_costs_a_pass() -> None:
    inside = Transform(size=64).view(disc_picture())[1].mask_in_view()
    for cells in grids(inside, 8):
        assert set(np.unique(cells)) == set(np.unique(cells[inside])) == set(range(cells.max() + 1))
    assert [cells.max() + 1 for cells in grids(np.ones((64, 64), bool), 8)] == [64, 81]


def test_the_background_has_no_detail_and_ends_where_the_field_ends() -> None:
    view = np.full((128, 128, 3), (180, 80, 40), np.uint8)
    inside = np.hypot(*(np.mgrid[:128, :128] - 63.5)) < 60
    view[~inside] = 0
    view[60:70, 60:70] = 255
    found = background_of(view, inside)
    assert np.abs(found[inside].astype(int) - (180, 80, 40)).max() <= 2
    assert not found[~inside].any()


def test_an_overlay_and_the_raw_map_are_saved(sees_yellow: Estimator, tmp_path: Path) -> None:
    photo, place = spotted(32)
    found = explain(sees_yellow, photo)
    path = found.save(tmp_path / "eye.png")
    assert np.array_equal(np.load(tmp_path / "eye.npy"), found.heat)
    with Image.open(path) as image:
        assert image.size == (180, 140)
        assert "not a medical device" in image.text["Comment"]  # type: ignore[attr-defined]
        assert image.text["target"] == "yes"  # type: ignore[attr-defined]
        assert not np.array_equal(np.asarray(image)[place], photo[place])
    assert repr(found).startswith("HeatMap(target=yes, predicted=probability ")
    assert "data:image/jpeg" in found._repr_html_()
    with pytest.raises(ConfigError, match=r"\.png"):
        found.save(tmp_path / "eye.jpg")
    with pytest.raises(OutputError, match="cannot be written"):
        found.save(tmp_path / "eye.npy" / "deep.png")


def test_the_strongest_place_is_the_most_opaque_and_against_is_blue() -> None:
    colours = heat_colours(np.array([[2.0, 0.1, -1.0, 0.0]], np.float32))
    assert colours[0, 0, 3] > colours[0, 2, 3] > 0
    assert colours[0, 1, 3] == colours[0, 3, 3] == 0
    assert colours[0, 2, 2] > colours[0, 2, 0]


def test_a_map_of_hardly_anything_is_faint_and_says_so() -> None:
    heat = np.zeros((128, 128), np.float32)
    heat[64, 64] = 0.02
    weak = HeatMap(disc_picture(), heat, "a", "probability 0.5", "occlusion", least=0.1)
    assert weak.strongest == "0.02 (hardly anything)"
    assert 0 < heat_colours(heat, 0.1)[64, 64, 3] < 0.1 * heat_colours(heat)[64, 64, 3]


def test_nothing_found_is_drawn_as_nothing() -> None:
    flat = HeatMap(disc_picture(), np.zeros((128, 128), np.float32), "a", "probability 0.5", "occlusion")
    assert np.array_equal(flat.overlay(), flat.picture)


def test_what_cannot_be_explained_is_refused(tiny: FundusClassifier, monkeypatch: pytest.MonkeyPatch) -> None:
    photo = disc_picture()
    with pytest.raises(ConfigError, match="FundusSegmenter cannot be explained"):
        explain(FundusSegmenter(TINY), photo)
    with pytest.raises(ConfigError, match="not fitted"):
        explain(FundusClassifier(TINY), photo)
    with pytest.raises(ConfigError, match="the classes are a, b"):
        explain(tiny, photo, target="c")
    with pytest.raises(ConfigError, match="'occlusion' or 'gradients'"):
        explain(tiny, photo, "shap")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="windows is 1"):
        explain(tiny, photo, windows=1)
    monkeypatch.setitem(__import__("sys").modules, "captum.attr", None)
    with pytest.raises(MissingDependencyError, match="pip install captum"):
        explain(tiny, photo)


def test_votes_of_neighbours_have_no_gradients() -> None:
    photos = [disc_picture(seed) for seed in range(6)]
    votes = FundusClassifier(TINY, head="neighbours", progress=False).fit(photos, ["a", "b"] * 3)
    with pytest.raises(ConfigError, match="method='occlusion'"):
        explain(votes, photos[0], "gradients")
    assert explain(votes, photos[0], windows=2).heat.shape == (128, 128)


def test_of_several_measurements_one_is_named() -> None:
    head = by_name.REGRESSORS["linear"]().fit(np.random.default_rng(0).normal(size=(9, 2)), np.ones((9, 2)))
    estimator = Estimator(head)
    estimator.task = "regression"
    with pytest.raises(ConfigError, match="2 measurements"):
        target_of(estimator, np.zeros((1, 2)), None)
    with pytest.raises(ConfigError, match="from 0 to 1"):
        target_of(estimator, np.zeros((1, 2)), 2)
    assert target_of(estimator, np.zeros((1, 2)), 1) == (1, "value_1", "value 1")


def test_a_folder_of_heat_maps_and_photos_of_one_name(sees_yellow: Estimator, tmp_path: Path) -> None:
    for name in ("a", "b"):
        Image.fromarray(spotted(3)[0]).save(tmp_path / f"{name}.png")
    photos = [tmp_path / "a.png", tmp_path / "b.png"]
    written = write_heat_maps(sees_yellow, photos, tmp_path / "heat", progress=False)
    assert [path.name for path in written] == ["a.png", "b.png"]
    assert (tmp_path / "heat" / "b.npy").is_file()
    named = [{"path": str(photos[0]), "frame": 0}, {"path": str(photos[1]), "id": "../d"}]
    written = write_heat_maps(sees_yellow, named, tmp_path / "named", progress=False)
    assert [str(path.relative_to(tmp_path)) for path in written] == ["named/a_0.png", "named/__d.png"]
    with pytest.raises(OutputError, match="share a name"):
        write_heat_maps(sees_yellow, [photos[0], photos[0]], tmp_path / "heat", progress=False)


@pytest.fixture(scope="module")
def sees_lesions() -> FundusClassifier:
    photos = [plain(i, SIZE) for i in range(16)] + [planted(i, SIZE).photo for i in range(16, 32)]
    classifier = FundusClassifier(TINY, head="linear", progress=False)
    return classifier.fit(photos, ["no"] * 16 + ["yes"] * 16)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["occlusion", "gradients"])
def test_a_planted_lesion_on_drawn_retinas_is_pointed_at(sees_lesions: FundusClassifier, method: Any) -> None:
    tests = [planted(100 + number, SIZE) for number in range(12)]
    assert (sees_lesions.predict([one.photo for one in tests]) == "yes").all()
    found = [explain(sees_lesions, one.photo, method) for one in tests]
    within = SIZE / 8  # a window
    hits = [pointed_at(heat.peak, one.place, within) for heat, one in zip(found, tests, strict=True)]
    assert np.mean(hits) >= 0.8
