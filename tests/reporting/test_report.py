"""The report: nothing unreliable without its figures, nothing asked for from elsewhere, numbers in words."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from measuring.made import SIDE, reading
from PIL import Image

from conftest import saved_generator
from retina_fm import index
from retina_fm.adapters import FundusClassifier
from retina_fm.cli.main import main
from retina_fm.errors import ConfigError
from retina_fm.explaining import HeatMap
from retina_fm.measuring.row import measured
from retina_fm.models import read_config, resolve
from retina_fm.models.reliability import Reliability
from retina_fm.network.architecture import ANATOMY
from retina_fm.pictures import Geometry
from retina_fm.pictures.tags import NOTHING
from retina_fm.reporting import write_report
from retina_fm.reporting.layers import layers_of
from retina_fm.reporting.measurements import reasons_of, rows_of
from retina_fm.reporting.ranges import HealthyRange, healthy_ranges, healthy_sources
from retina_fm.reporting.reading import ReadPhoto
from retina_fm.reporting.writing import report_page

STATED = {
    "hard_exudate": Reliability(
        on="ten; and five", threshold=0.1, healthy_share=0.001, precision=0.8, recall=0.2
    ),
    "scar": Reliability(on="seven photographs", healthy_share=0.002, precision=0.1, recall=0.2),
    "artery": Reliability(on="six photographs", balanced_accuracy=0.5),
    "vein": Reliability(on="six photographs", balanced_accuracy=0.5),
}


def read_photo(*, allow: bool = False, quality: float | None = None) -> ReadPhoto:
    made = reading()
    geometry = Geometry(2 * SIDE, 2 * SIDE, SIDE, SIDE, 250.0, SIDE, margin=0.024)
    values = measured(made, geometry, None, NOTHING, STATED, allow)
    if quality is not None:
        values = {
            "quality": quality,
            "reasons": "disc, fovea, vessels, lesions: quality is 0.10, 0.25 is needed",
        }
    return ReadPhoto(made, geometry, values, STATED, "made", "0" * 64)


def test_maps_that_fail_their_figures_are_left_out_with_them() -> None:
    found = layers_of(read_photo())
    assert list(found.shown) == ["Vessels", "Hard exudate", "Disc and fovea"]
    assert set(found.left_out) == {"Arteries", "Veins", "Scar"}
    assert "balanced accuracy 0.50" in found.left_out["Arteries"]
    assert "precision 0.10" in found.left_out["Scar"]
    assert "precision 0.80, recall 0.20 (ten; and five)" in found.shown["Hard exudate"].note


def test_asked_for_they_are_off_and_marked() -> None:
    found = layers_of(read_photo(), allow_unreliable=True)
    assert not found.left_out
    for name in ("Arteries", "Veins", "Scar"):
        assert found.shown[name].doubtful
        assert not found.shown[name].shown
        assert found.shown[name].note.startswith("not to be relied on: ")
    both = (found.shown["Arteries"].overlay > 0) & (found.shown["Veins"].overlay > 0)
    assert found.shown["Arteries"].overlay.any()
    assert not both.any()


def test_of_a_photo_too_poor_to_be_measured_no_layer_is_shown() -> None:
    found = layers_of(read_photo(quality=0.1))
    assert not found.shown
    assert found.left_out["Vessels"] == "quality is 0.10, 0.25 is needed"


def test_a_lesion_is_ringed_and_the_disc_is_drawn_where_they_lie() -> None:
    found = layers_of(read_photo()).shown
    ring = np.asarray(found["Hard exudate"].overlay, bool)
    assert not ring[180, 180]
    assert np.allclose([place.mean() for place in np.nonzero(ring)], 180, atol=1)
    marks = np.asarray(found["Disc and fovea"].overlay)
    assert marks[128, 60 - 18] > 0.5  # on the disc's margin
    assert marks[128, 60] == 0
    assert marks[132, 140] > 0.5  # the fovea


def test_a_heat_map_lies_in_the_view_as_in_the_photo() -> None:
    heat = np.zeros((2 * SIDE, 2 * SIDE), np.float32)
    heat[200:220, 300:320] = 2.0
    picture = np.zeros((2 * SIDE, 2 * SIDE, 3), np.uint8)
    found = layers_of(read_photo(), HeatMap(picture, heat, "yes", "probability 0.9", "occlusion")).shown
    layer = found["Heat map: yes"]
    assert layer.note == "probability 0.9; occlusion, strongest 2"
    rows, columns = np.nonzero(layer.overlay[..., 3])
    assert np.allclose([rows.mean(), columns.mean()], [105, 155], atol=1.5)


def test_values_stand_beside_healthy_ones_in_words() -> None:
    values = {"vessel_density": 0.2, "disc_diameter": 100.0, "disc_fovea_distance": 250.0}
    ranges = {
        "vessel_density": HealthyRange(0.05, 0.08, 0.1, 50),
        "disc_fovea_distance": HealthyRange(2.2, 2.5, 2.8, 50),
    }
    rows = {row.name: row for section in rows_of(values, ranges).values() for row in section}
    dense = rows["vessel density"]
    assert (dense.value, dense.healthy, dense.outside) == ("20 %", "5 to 10 %", "above")
    assert dense.place is not None and dense.place[0] == 98 > dense.place[3] > dense.place[2] > dense.place[1]
    away = rows["disc fovea distance"]
    assert (away.value, away.outside) == ("250 px, 2.50 discs", "")
    assert away.healthy == "2.20 to 2.80 discs"
    assert rows["disc diameter"].healthy == ""


def test_a_number_that_was_asked_for_all_the_same_is_marked() -> None:
    values = {"crve": 8.0, "lesion_scar": 0.1, "lesion_hard_exudate": 0.1}
    ranges = {name: HealthyRange(0.0, 0.01, 0.02, 50) for name in values}
    rows = {row.name: row for section in rows_of(values, ranges, STATED).values() for row in section}
    assert "precision 0.10" in rows["scar"].note
    assert "balanced accuracy 0.50" in rows["venular equivalent (CRVE)"].note
    assert [row.doubtful for row in rows.values()] == [True, False, True]
    assert rows["scar"].place is None
    assert rows["hard exudate"].outside == "above"


def test_reasons_are_split_where_a_new_one_begins() -> None:
    values = {"reasons": "lesion_scar: precision 0.1 (ten; and five); crae, crve: no disc is seen"}
    assert reasons_of(values) == [
        ("scar", "precision 0.1 (ten; and five)"),
        ("arteriolar equivalent (CRAE), venular equivalent (CRVE)", "no disc is seen"),
    ]
    assert reasons_of({}) == []


def test_ranges_belong_to_the_weights_that_they_were_measured_with() -> None:
    assert healthy_ranges("0" * 64) == {}
    ranges = healthy_ranges(read_config(resolve("fundus2video-half")).sha256)
    assert {"vessel_density", "tortuosity", "disc_fovea_distance", "lesion_hard_exudate"} <= set(ranges)
    assert "lesion_scar" not in ranges  # not to be relied on, so never measured
    assert all(one.low <= one.median <= one.high and one.photos >= 20 for one in ranges.values())
    assert "HRF" in healthy_sources()


def test_a_page_says_what_it_left_out_and_escapes_names() -> None:
    text = report_page(read_photo(), "<b>.jpg", allow_unreliable=False)
    assert "<title>&lt;b&gt;.jpg</title>" in text
    assert "Layers left out: Arteries, Veins, Scar" in text
    assert "balanced accuracy 0.50" in text
    assert "not a medical device" in text
    assert 'class="frames"' not in text


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("reporting") / "tiny-anatomy"
    return str(saved_generator(folder, vessels=True, anatomy=ANATOMY))


def test_the_command_writes_one_page_that_holds_everything(
    photo_folder: Path, model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = [str(photo_folder / f"eye{number}.png") for number in range(1, 7)]
    index(photos, model, store=tmp_path / "clinic", signature=False, progress=False)
    classifier = FundusClassifier(model, head="linear", progress=False)
    classifier.fit(photos, ["a", "b"] * 3).save(tmp_path / "adapter")
    Path(photos[-1]).unlink()  # a picture that the index still knows
    page = tmp_path / "page.html"
    command = ["report", photos[0], "--out", str(page), "--model", model, "--explain", "gradients"]
    assert main([*command, "--index", str(tmp_path / "clinic"), "--adapter", str(tmp_path / "adapter")]) == 0
    assert capsys.readouterr().out.strip() == str(page)
    text = page.read_text()
    assert not re.findall(r'(?:href|src)="(?!data:)|url\(|@import', text)
    assert 'class="frames"' in text
    assert "Heat map: " in text
    assert text.count("<figure") == 1 + 5
    assert "eye2.png" in text
    assert text.count("its file cannot be read any more") == 1
    assert "prefers-color-scheme:dark" in text and 'name="viewport"' in text


def test_what_cannot_become_a_report_is_said_at_once(
    photo_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photo, page = str(photo_folder / "eye1.png"), str(tmp_path / "page.html")
    for command, said in (
        ([str(photo_folder), "--out", page], "is a folder"),
        ([photo, "--out", "page.txt"], "is an .html file"),
        ([photo, "--out", page, "--index", str(tmp_path)], "holds no index"),
        ([photo, "--out", page, "--adapter", "nowhere"], "no adapter's folder"),
        ([photo, "--out", page, "--model", "fundus2video-tiny"], "does not map vessels"),
    ):
        assert main(["report", *command]) == 1
        assert said in capsys.readouterr().err
    with pytest.raises(ConfigError, match="is an"):
        write_report(Image.new("RGB", (64, 64)), tmp_path / "page.pdf")
