from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from retina_fm.training.simulator.anatomy.drawn import DrawnRetina, draw_retina
from retina_fm.vessels.trust import Believed, believe, trust_in


@pytest.fixture(scope="module")
def retina() -> DrawnRetina:
    return draw_retina(4, 256, lesions={})


def believed(retina: DrawnRetina, vessels: np.ndarray, photo: np.ndarray | None = None) -> Believed:
    disc_radius = float(np.sqrt(retina.disc.sum() / np.pi))
    shown = retina.photo if photo is None else photo
    fovea = retina.fovea_centre
    return believe(shown, vessels, retina.field_of_view, retina.field_radius, disc_radius, fovea)


def test_pieces_that_hang_on_nothing_are_taken_out_and_in_doubt(retina: DrawnRetina) -> None:
    y, x = (int(v) for v in retina.fovea_centre)
    vessels = retina.vessels.copy()
    vessels[y - 12 : y - 10, x - 6 : x + 6] = 1.0
    found = believed(retina, vessels)
    assert found.vessels[y - 14 : y - 8, x - 8 : x + 8].max() == 0
    assert found.unsure[y - 11, x]
    trunk = retina.vessels > 0.9
    assert (found.vessels > 0.5)[trunk].mean() > 0.9 and found.unsure[trunk].mean() < 0.05


def test_trust_alone_is_the_same(retina: DrawnRetina) -> None:
    light = np.log(retina.photo[..., 1].astype(np.float32) + 4)
    disc_radius = float(np.sqrt(retina.disc.sum() / np.pi))
    field = retina.field_of_view
    alone = trust_in(light, retina.vessels, field, retina.field_radius, disc_radius, retina.fovea_centre)
    assert alone == believed(retina, retina.vessels).trust > 0.3


def test_nothing_runs_through_the_foveal_avascular_zone_and_that_is_sure(retina: DrawnRetina) -> None:
    y, x = (int(v) for v in retina.fovea_centre)
    vessels = retina.vessels.copy()
    vessels[y, :] = 1.0
    found = believed(retina, vessels)
    assert found.vessels[y, x] == 0 and not found.unsure[y, x]


def test_hazy_photos_and_scattered_pieces_are_believed_less(retina: DrawnRetina) -> None:
    clear = believed(retina, retina.vessels).trust
    hazy = (retina.photo * 0.3 + 100 * retina.field_of_view[..., None]).astype(np.uint8)
    assert believed(retina, retina.vessels, hazy).trust < 0.6 * clear
    noise = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=retina.vessels.shape), 1.5)
    scattered = np.where(noise > np.quantile(noise, 0.92), np.float32(1), np.float32(0))
    assert believed(retina, scattered).trust < 0.4 * clear
