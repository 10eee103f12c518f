"""Vessel protocol: figures by hand, draws by patient, baselines, masks that make no sense."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from retina_fm.errors import ConfigError, ManifestError
from retina_fm.evaluation.baselines.frangi import frangi_vessels
from retina_fm.evaluation.baselines.unet import ScratchUNet
from retina_fm.evaluation.contenders import VesselsOnly, make_contender
from retina_fm.evaluation.manifest import Manifest, folder_manifest
from retina_fm.evaluation.protocols.vessels import read_labels, vessel_figures, vessel_runs
from retina_fm.evaluation.running import evaluate
from retina_fm.evaluation.suite import Settings, read_suite
from retina_fm.evaluation.vessel_methods import Fitted, VesselMethod, call_vessels
from retina_fm.metrics.scores import auroc


def retina(folder: Path, number: int, size: int = 200) -> None:
    """A disc with dark curves, and the mask of the curves."""
    random = np.random.default_rng(number)
    for kind in ("images", "masks"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    mask = Image.new("L", (size, size))
    draw = ImageDraw.Draw(mask)
    for _ in range(7):
        angle = random.uniform(0, 2 * np.pi)
        steps = np.linspace(0, 0.44 * size, 30)
        bend = np.cumsum(random.normal(0, 0.04, 30))
        points = [
            (size / 2 + r * np.cos(angle + b), size / 2 + r * np.sin(angle + b))
            for r, b in zip(steps, bend, strict=True)
        ]
        draw.line(points, fill=255, width=3)
    vessels = np.asarray(mask) > 0
    y, x = np.mgrid[:size, :size] + 0.5
    inside = np.hypot(y - size / 2, x - size / 2) < 0.46 * size
    photo = np.where(inside[..., None], np.array([190.0, 100.0, 50.0]), 0)
    photo[vessels & inside] *= 0.6
    photo += random.normal(0, 4, photo.shape) * inside[..., None]
    Image.fromarray(photo.clip(0, 255).astype(np.uint8)).save(folder / "images" / f"{number}.png")
    Image.fromarray(((vessels & inside) * 255).astype(np.uint8)).save(folder / "masks" / f"{number}.png")


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    folder = tmp_path_factory.mktemp("vessels")
    for number in range(5):
        retina(folder, number)
    return folder_manifest(folder / "images", folder / "masks", name="drawn")


def oracle(gain: float = 1.0) -> VesselMethod:
    """Knows the truth, by the folder's names; with a gain of 0 it says nothing."""

    def fit(photos: list, masks: list, fields: list, seed: int) -> Fitted:
        def scores(path: Path) -> np.ndarray:
            return gain * np.asarray(Image.open(path.parent.parent / "masks" / path.name)).astype(float)

        return Fitted(scores, 0.5 if photos else None)

    return VesselMethod("oracle", {}, fit)


def test_a_perfect_map_is_judged_perfect_and_an_empty_one_chance(drawn: Manifest) -> None:
    runs = vessel_runs(oracle(), drawn.rows, 1, (0, 1))
    figures = vessel_figures(runs, samples=20)
    assert figures["dice"]["mean"] == figures["auroc"]["mean"] == figures["aupr"]["mean"] == 1
    runs = vessel_runs(oracle(0.0), drawn.rows, 1, (0,))
    figures = vessel_figures(runs, samples=20)
    assert figures["dice"]["mean"] == 0
    assert figures["auroc"]["mean"] == 0.5


def test_drawn_pictures_are_not_judged_and_none_are_drawn_for_zero_shots(drawn: Manifest) -> None:
    runs = vessel_runs(oracle(), drawn.rows, 2, (0, 1, 2))
    assert len({tuple(run.drawn) for run in runs}) > 1
    for run in runs:
        assert sorted([*run.drawn, *(p.name for p in run.pictures)]) == [f"{n}.png" for n in range(5)]
    (run,) = vessel_runs(oracle(), drawn.rows, 0, (0, 1, 2))
    assert not run.drawn
    assert len(run.pictures) == 5
    (run,) = vessel_runs(oracle(), drawn.rows, 1, (0,), tests=2)
    assert len(run.pictures) == 2
    assert "too few for 5 shots" in str(vessel_runs(oracle(), drawn.rows, 5, (0,)))


def test_frangi_sees_drawn_vessels(drawn: Manifest) -> None:
    for row in drawn.rows[:2]:
        truth, inside = read_labels(row)
        assert auroc(truth[inside], frangi_vessels(row.path)[inside]) > 0.9


def network(path: Path, masks: list) -> ScratchUNet:
    return ScratchUNet(steps=2, crops=1, side=64, size=96, seed=1).fit([path], masks)


def test_a_network_from_scratch_repeats_to_the_bit(drawn: Manifest) -> None:
    rows = drawn.rows
    masks = [read_labels(rows[0])[0]]
    maps = [network(rows[0].path, masks).predict_proba(rows[1].path) for _ in range(2)]
    assert (maps[0] == maps[1]).all()


def test_an_encoder_with_a_generator_reads_vessels_without_examples(
    drawn: Manifest, generator_folder: Path
) -> None:
    method = make_contender(str(generator_folder)).vessels(Settings())
    assert method is not None
    fitted = method.fit([], [], [], 0)
    assert isinstance(fitted, Fitted)
    assert fitted.threshold is None
    assert fitted.scores(drawn.rows[0].path).shape == (200, 200)
    without = make_contender("fundus2video-tiny").vessels(Settings())
    assert without is not None
    assert "without a generator" in str(without.fit([], [], [], 0))


@pytest.mark.slow
def test_a_network_from_scratch_learns(drawn: Manifest) -> None:
    rows = drawn.rows
    truth, inside = read_labels(rows[1])
    learnt = ScratchUNet(steps=60, side=96, seed=1).fit([rows[0].path], [read_labels(rows[0])[0]])
    assert auroc(truth[inside], learnt.predict_proba(rows[1].path)[inside]) > 0.8


def test_without_a_threshold_the_surest_eighth_is_called() -> None:
    scores = np.linspace(0, 1, 1000).reshape(20, 50)
    inside = np.ones((20, 50), bool)
    inside[:, :10] = False
    called = call_vessels(scores, inside, None)
    assert called[inside].mean() == pytest.approx(0.12, abs=0.01)
    assert not called[~inside].any()
    assert not call_vessels(np.zeros((20, 50)), inside, None).any()


def test_masks_that_cannot_be_judged_are_named(drawn: Manifest, tmp_path: Path) -> None:
    retina(tmp_path, 0)
    Image.new("L", (200, 200)).save(tmp_path / "masks" / "0.png")
    (row,) = folder_manifest(tmp_path / "images", tmp_path / "masks").rows
    with pytest.raises(ManifestError, match=r"mask of 0\.png is empty"):
        read_labels(row)
    Image.new("L", (100, 200), 255).save(tmp_path / "masks" / "0.png")
    with pytest.raises(ConfigError, match="200 x 100 pixels, the photo 200 x 200"):
        read_labels(row)
    (row,) = folder_manifest(tmp_path / "images").rows
    with pytest.raises(ManifestError, match="no mask to judge"):
        read_labels(row)


def test_features_without_maps_have_no_vessel_method() -> None:
    assert make_contender("thumbnail").vessels(Settings()) is None
    method = VesselsOnly("unet-scratch").vessels(Settings())
    assert method is not None
    assert "knows nothing without examples" in str(method.fit([], [], [], 0))


def test_changed_photos_and_masks_are_judged_anew(tmp_path: Path) -> None:
    for number in range(2):
        retina(tmp_path, number, 96)
    (tmp_path / "fields").mkdir()
    for number in range(2):
        Image.new("L", (96, 96), 255).save(tmp_path / "fields" / f"{number}.png")
    (tmp_path / "suite.toml").write_text(
        "[settings]\nvessel_shots = [0]\nbootstrap = 10\n"
        '[sets.drawn]\nimages = "images"\nmasks = "masks"\nfields = "fields"\n'
        '[tasks.drawn]\nset = "drawn"\nprotocols = ["vessels"]\n'
    )

    def cells() -> int:
        evaluate(read_suite(tmp_path / "suite.toml"), [make_contender("frangi")], tmp_path / "out")
        return len(list((tmp_path / "out" / "cells").glob("*.json")))

    assert [cells(), cells()] == [1, 1]
    for count, changed in enumerate(("images", "masks", "fields"), 2):
        picture = np.asarray(Image.open(tmp_path / changed / "0.png")).copy()
        picture[44:52, 44:52] = 60
        Image.fromarray(picture).save(tmp_path / changed / "0.png")
        assert cells() == count


def test_a_suite_with_vessels_writes_overlays_and_says_what_it_cannot(
    drawn: Manifest, tmp_path: Path
) -> None:
    root = drawn.rows[0].path.parent.parent
    (tmp_path / "suite.toml").write_text(
        "[settings]\nvessel_shots = [0, 1]\nvessel_seeds = [0]\nvessel_tests = 2\nvessel_steps = 2\n"
        "vessel_size = 128\nbootstrap = 10\n"
        '[sets.drawn]\nimages = "images"\nmasks = "masks"\n'
        '[tasks.drawn]\nset = "drawn"\nprotocols = ["vessels"]\n'
    )
    contenders = [make_contender(name) for name in ("frangi", "fundus2video-tiny")]
    results = evaluate(read_suite(tmp_path / "suite.toml", root), contenders, tmp_path / "out")
    found = {(e["setting"], e["model"]) for e in results["results"]}
    assert found == {("0 shots", "frangi"), ("1 shots", "frangi"), ("1 shots", "fundus2video-tiny")}
    assert "without a generator" in results["skipped"][0]["reason"]
    assert len(list((tmp_path / "out" / "overlays").glob("*.jpg"))) == 6
    assert "data:image/jpeg" in (tmp_path / "out" / "report.html").read_text()
    assert results["draws"]["vessels/drawn/1 shots"]["0"]["train"]
    again = evaluate(read_suite(tmp_path / "suite.toml", root), contenders, tmp_path / "out")
    assert again == results
