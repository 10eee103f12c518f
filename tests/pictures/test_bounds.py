"""Crop bounds in fundusprep's format, in and out, and what is cut by them."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from retina_fm.errors import ConfigError, PictureError
from retina_fm.pictures import Transform
from retina_fm.pictures.bounds import Bounds, bounds_of, id_of, read_bounds, with_bounds, write_bounds
from tests.pictures.drawn import fundus


def table(path: Path, *rows: tuple[str, str, str]) -> Path:
    with path.open("w", newline="") as stream:
        csv.writer(stream).writerows([("id", "success", "bounds"), *rows])
    return path


def test_what_fundusprep_writes_is_read(tmp_path: Path) -> None:
    lines = "'lines': {'top': [[0.0, 12.0], [99.0, 12.5]]}"
    found = read_bounds(
        table(
            tmp_path / "b.csv",
            ("a", "True", f"{{'hw': (80, 100), 'center': (49.5, 39.5), 'radius': 35.0, {lines}}}"),
            ("b", "True", "{'center': (np.float64(3.25), 4.0), 'radius': np.float64(2.5), 'lines': {}}"),
            ("c", "False", "{}"),
        )
    )
    assert found["a"] == Bounds(80, 100, 40.0, 50.0, 35.0, {"top": [[0.0, 12.0], [99.0, 12.5]]})
    assert found["b"] == Bounds(0, 0, 4.5, 3.75, 2.5, {}) and found["c"] is None
    write_bounds(tmp_path / "again.csv", found)
    assert read_bounds(tmp_path / "again.csv") == found
    written = (tmp_path / "again.csv").read_text()
    assert written.startswith("id,success,bounds\na,True,\"{'hw': (80, 100), ")


@pytest.mark.parametrize(
    "cell",
    [
        *(
            "",
            "[1]",
            "__import__('os').getcwd()",
            "{'center': (1, 2), 'radius': -3}",
            "(" * 5000,
            "{'radius': 3}",
        ),
        "{'hw': (1e999, 64), 'center': (32, 32), 'radius': 30}",
        "{'center': (nan, 32), 'radius': 30}",
        "{'center': (1e999, 32), 'radius': 30}",
        f"{{'center': (32, 32), 'radius': {'9' * 4000}}}",
    ],
)
def test_what_are_no_bounds_is_refused_with_its_line(tmp_path: Path, cell: str) -> None:
    with pytest.raises(ConfigError, match="line 2"):
        read_bounds(table(tmp_path / "b.csv", ("a", "True", cell)))


def test_tables_that_are_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        read_bounds(tmp_path / "lost.csv")
    (tmp_path / "b.csv").write_text("path,label\na,1\n")
    with pytest.raises(ConfigError, match="has no column 'id'"):
        read_bounds(tmp_path / "b.csv")
    good = "{'center': (1, 2), 'radius': 3}"
    with pytest.raises(ConfigError, match="'a' is there twice"):
        read_bounds(table(tmp_path / "b.csv", ("a", "True", good), ("a", "True", good)))


def test_the_circle_found_is_the_one_drawn_and_comes_back(tmp_path: Path) -> None:
    found = bounds_of(fundus(200, 240, (95, 130), 80))
    assert found is not None and found[:2] == (200, 240)
    assert found[2:5] == pytest.approx((95, 130, 80), abs=1)
    noise = np.random.default_rng(0).integers(100, 140, (64, 64, 3)).astype(np.uint8)
    assert bounds_of(noise) is None, "cropped to the retina"


def test_a_view_is_cut_by_the_bounds_that_are_given(tmp_path: Path) -> None:
    path = tmp_path / "eye.png"
    Image.fromarray(fundus(200, 240)).save(path)
    given = Bounds(200, 240, 90.0, 110.0, 60.0)
    for photo, name in ((str(path), "eye"), ({"path": str(path), "id": "p1"}, "p1")):
        assert id_of(photo) == name
        (one,) = with_bounds(photo, {name: given})
        geometry = Transform(size=64).view(one)[1]
        assert (geometry.centre_y, geometry.centre_x, geometry.radius) == (90.0, 110.0, 60.0)
    with pytest.raises(PictureError, match="its bounds are of a picture of 240 x 100"):
        Transform().view(with_bounds(path, {"eye": given._replace(height=100)})[0])
    assert with_bounds(path, {"other": given}) == [path]


@pytest.mark.parametrize(
    ("x", "y", "radius"),
    [(32, 32, 1e-300), (32, 32, 1e6), (32, 32, 1e300), (1e300, 32, 30), (200, 32, 30), (-25, -25, 30)],
)
def test_a_circle_that_is_no_field_of_view_of_the_photo_is_refused(
    tmp_path: Path, x: float, y: float, radius: float
) -> None:
    Image.fromarray(fundus(64, 64)).save(tmp_path / "a.png")
    given = {"a": Bounds(64, 64, y, x, radius)}
    with pytest.raises(PictureError, match="no field of view in 64 x 64"):
        Transform(size=32)(with_bounds(tmp_path / "a.png", given)[0])


def test_two_photos_of_one_id_do_not_share_bounds(tmp_path: Path) -> None:
    given = {"a": Bounds(64, 64, 32, 32, 30)}
    one, other = tmp_path / "one" / "a.png", tmp_path / "other" / "a.png"
    assert len(with_bounds([one, one], given)) == 2
    assert len(with_bounds([one, {"path": other, "id": "b"}], given)) == 2
    with pytest.raises(ConfigError, match="have the id 'a'"):
        with_bounds([one, other], given)


def test_a_name_that_is_no_text_finds_its_bounds_again(tmp_path: Path) -> None:
    photo = tmp_path / "x\udcff.png"
    name = id_of(photo)
    assert name == "x\\xff"
    write_bounds(tmp_path / "b.csv", {name: Bounds(64, 64, 32, 32, 30)})
    (found,) = with_bounds([photo], tmp_path / "b.csv")
    assert found["bounds"] == (64, 64, 32, 32, 30)


def test_a_mask_drawn_on_a_crop_comes_back_to_the_photo() -> None:
    # its warp: crop x = (photo x - centre x) * size / (2 radius) + size / 2, pixel centres whole numbers
    bounds = Bounds(200, 240, 100.5, 120.5, 64.0)
    back = bounds.crop(256).to_picture(np.array([[128.5, 128.5], [128.5 + 20, 128.5]]))
    assert back == pytest.approx(np.array([[100.5, 120.5], [110.5, 120.5]]))
    mask = np.zeros((256, 256), np.uint8)
    mask[100:140, 60:90] = 255
    inside = bounds.crop(256).picture_of(mask)
    assert inside.shape == (200, 240) and inside.sum() / 255 == pytest.approx(40 * 30 / 4, rel=0.05)
    with pytest.raises(ConfigError, match="do not say how large"):
        Bounds(0, 0, 1, 1, 1).crop()
