"""Rendered angiograms obey what is known about dye in the eye."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from retina_fm.training import (
    LESION_TYPES,
    draw_parameters,
    draw_retina,
    prepare_drawn,
    render_parameters,
    stack_eyes,
)
from retina_fm.training.simulator.rendering.dye import arterial_input, front, laminar_delay
from retina_fm.training.simulator.rendering.render import MASK_THRESHOLD

MICROANEURYSM, HAEMORRHAGE = LESION_TYPES.index("microaneurysm"), LESION_TYPES.index("haemorrhage")


def quiet(parameters):
    """The same sequence without grain, vignetting or exposure, so that light itself is seen."""
    batch = len(parameters["gain"])
    parameters["noise"] = torch.zeros(batch)
    parameters["vignette"] = torch.zeros(batch)
    parameters["light_field"] = torch.zeros_like(parameters["light_field"])
    parameters["gain"] = torch.full((batch, 12), 0.8)
    return parameters


@pytest.fixture(scope="module")
def quiet_sequences(prepared_eyes):
    parameters = quiet(
        draw_parameters(torch.Generator().manual_seed(9), 12, size=256, painting=1.0, augment=False)
    )
    parameters["leak"] = torch.full((12,), 0.8)
    parameters["nonperfusion"] = torch.zeros(12)
    return render_parameters(stack_eyes(prepared_eyes * 3), parameters)


def mean_in(frames, mask):
    """Mean of each frame over each picture's mask: (B, K)."""
    weight = mask.float()
    return (frames * weight).sum((2, 3)) / weight.sum((2, 3)).clamp(min=1)


def test_arteries_lead_veins_in_every_sequence(quiet_sequences):
    r = quiet_sequences
    artery, vein = r.compartments["artery"], r.compartments["vein"]
    a = mean_in(r.frames, (artery > 0.8) & (vein < 0.05))
    v = mean_in(r.frames, (vein > 0.8) & (artery < 0.05))
    for sequence in range(len(a)):
        filled_a = (a[sequence] > 0.5 * a[sequence].max()).nonzero()[0]
        filled_v = (v[sequence] > 0.5 * v[sequence].max()).nonzero()[0]
        assert filled_a < filled_v
        assert (a[sequence, :2] > v[sequence, :2]).all()


def test_veins_are_brightest_in_the_venous_phase(quiet_sequences):
    r = quiet_sequences
    v = mean_in(r.frames, (r.compartments["vein"] > 0.8) & (r.compartments["artery"] < 0.05))
    peak = v.argmax(1)
    assert ((peak >= 4) & (peak < 8)).all()


def test_front_reaches_distant_arteries_later(prepared_eyes):
    batch = stack_eyes(prepared_eyes)
    parameters = quiet(
        draw_parameters(torch.Generator().manual_seed(1), 4, size=256, painting=0.0, augment=False)
    )
    parameters["times"] = torch.linspace(-0.1, 1.4, 12).expand(4, 12).contiguous()
    r = render_parameters(batch, parameters, lesions=False)
    frames = r.frames.numpy()
    for i, eye in enumerate(prepared_eyes):
        y, x = np.nonzero((eye.map("artery") > 0.8) & (eye.map("vein") < 0.05) & (eye.map("disc") < 0.05))
        series = frames[i, :, y, x]
        rise = series - series[:, :1]
        # Between frames, a straight line: a fast front crosses a short tree within one step.
        share = rise / rise[:, -1:]
        after, row = np.argmax(share > 0.2, axis=1), np.arange(len(share))
        before = share[row, after - 1]
        arrival = after - 1 + (0.2 - before) / (share[row, after] - before)
        distance = np.hypot(y + 0.5 - eye.disc_centre[0], x + 0.5 - eye.disc_centre[1])
        assert np.corrcoef(arrival, distance)[0, 1] > 0.6


def test_vein_fills_from_its_walls():
    axis = torch.tensor([0.0, 0.5, 1.0])
    one = torch.ones(3)
    delay = laminar_delay(one, axis, one * 0.012, one, one * 2.0, one * 2.5)
    assert (delay.diff() > 0.4).all()
    narrow = laminar_delay(one, axis, one * 0.002, one, one * 2.0, one * 2.5)
    assert narrow.diff().max() < delay.diff().max() / 4


def test_dye_comes_recirculates_and_decays():
    t = torch.tensor([-1.0, 0.0, 1.0, 4.0, 20.0, 120.0, 600.0])
    dose = arterial_input(t, torch.tensor(4.0), torch.tensor(0.6), torch.tensor(600.0))
    assert dose[:2].max() == 0
    assert dose[3] > dose[2]
    assert (dose[3:].diff() < 0).all()
    assert dose[-1] > 0.02


def test_front_is_half_way_at_its_delay():
    assert front(torch.tensor(2.0), torch.tensor(2.0), 0.1) == pytest.approx(0.5)


def test_fovea_stays_darker_than_the_macula_around_it(quiet_sequences, prepared_eyes):
    r = quiet_sequences
    clear = (r.compartments["artery"] + r.compartments["vein"] < 0.05) & (
        r.lesions.sum(1, keepdim=True) < 0.01
    )
    clear &= r.compartments["leak"] < 0.01
    y, x = np.mgrid[:256, :256] + 0.5
    for i, eye in enumerate(prepared_eyes * 3):
        away = np.hypot(y - eye.fovea_centre[0], x - eye.fovea_centre[1]) / eye.disc_radius
        pit = torch.from_numpy(away < 0.4) & clear[i, 0]
        ring = torch.from_numpy((away > 2) & (away < 3)) & clear[i, 0] & (r.compartments["disc"][i, 0] < 0.01)
        if pit.sum() < 5:
            continue
        assert (r.frames[i, :, pit].mean(1) < 0.85 * r.frames[i, :, ring].mean(1)).all()


def test_haemorrhages_stay_dark(quiet_sequences):
    r = quiet_sequences
    others = r.lesions.sum(1, keepdim=True) - r.lesions[:, HAEMORRHAGE : HAEMORRHAGE + 1]
    blood = (r.lesions[:, HAEMORRHAGE : HAEMORRHAGE + 1] > 0.6) & (others < 0.02)
    plain = (r.lesions.sum(1, keepdim=True) < 0.01) & (r.field_of_view > 0)
    plain &= r.compartments["artery"] + r.compartments["vein"] < 0.05
    inside, outside = mean_in(r.frames, blood), mean_in(r.frames, plain)
    seen = blood.sum((2, 3))[:, 0] > 20
    assert seen.any()
    assert (inside[seen] < 0.75 * outside[seen]).all()


def test_leaking_area_grows_and_never_shrinks(prepared_eyes):
    batch = stack_eyes(prepared_eyes)
    generator = torch.Generator().manual_seed(2)
    parameters = quiet(draw_parameters(generator, 4, size=256, painting=1.0, augment=False))
    dry = parameters.to("cpu")
    parameters["leak"], dry["leak"] = torch.full((4,), 1.0), torch.zeros(4)
    wet, without = render_parameters(batch, parameters).frames, render_parameters(batch, dry).frames
    area = ((wet - without) > 0.03).float().mean((2, 3))
    assert (area.diff(dim=1)[:, 4:] >= -1e-6).all()
    assert (area[:, -1] > area[:, 4]).any()
    assert area[:, :3].max() == 0


def test_microaneurysms_shine_from_the_arteriovenous_phase(quiet_sequences):
    r = quiet_sequences
    spots = r.lesions[:, MICROANEURYSM : MICROANEURYSM + 1] > 0.4
    around = (r.lesions.sum(1, keepdim=True) < 0.01) & (r.field_of_view > 0)
    around &= r.compartments["artery"] + r.compartments["vein"] < 0.05
    excess = mean_in(r.frames, spots) - mean_in(r.frames, around)
    seen = spots.sum((2, 3))[:, 0] > 8
    assert seen.any()
    assert (excess[seen, 5] > 0.1).all()
    assert (excess[seen, 5] > excess[seen, 0]).all()


def test_nonperfused_areas_are_dark(prepared_eyes):
    parameters = quiet(
        draw_parameters(torch.Generator().manual_seed(8), 4, size=256, painting=1.0, augment=False)
    )
    parameters["nonperfusion"], parameters["leak"] = torch.ones(4), torch.zeros(4)
    r = render_parameters(stack_eyes(prepared_eyes), parameters)
    plain = (r.lesions.sum(1, keepdim=True) < 0.01) & (r.field_of_view > 0) & (r.compartments["disc"] < 0.01)
    plain &= r.compartments["artery"] + r.compartments["vein"] < 0.05
    dry, fed = plain & (r.compartments["nonperfusion"] > 0.9), plain & (r.compartments["nonperfusion"] < 0.1)
    seen = dry.sum((2, 3))[:, 0] > 50
    assert seen.any()
    assert (mean_in(r.frames, dry)[seen, 5] < 0.75 * mean_in(r.frames, fed)[seen, 5]).all()


def test_disc_stains_late(quiet_sequences):
    r = quiet_sequences
    disc = (r.compartments["disc"] > 0.9) & (r.compartments["artery"] + r.compartments["vein"] < 0.05)
    light = mean_in(r.frames, disc)
    assert (light[:, 11] > light[:, 1]).all()


def test_mask_is_the_change_from_first_to_last_above_its_threshold(painted_sequences):
    r = painted_sequences
    expected = ((r.frames[:, :1] - r.frames[:, 11:]).abs() > MASK_THRESHOLD).float()
    assert torch.equal(r.mask, expected)
    assert 0 < r.mask.mean() < 0.9


def test_choroid_flushes_before_the_arteries_fill(prepared_eyes):
    parameters = quiet(
        draw_parameters(torch.Generator().manual_seed(5), 4, size=256, painting=0.0, augment=False)
    )
    parameters["times"] = torch.tensor([[-3.0, -0.1] + [5.0] * 10]).repeat(4, 1)
    parameters["choroid_lead"] = torch.full((4,), 1.2)
    r = render_parameters(stack_eyes(prepared_eyes), parameters, lesions=False)
    tissue = (r.compartments["artery"] + r.compartments["vein"] < 0.05) & (r.field_of_view > 0)
    tissue &= r.compartments["disc"] < 0.01
    glow = mean_in(r.frames, tissue)
    artery = mean_in(r.frames, (r.compartments["artery"] > 0.8) & (r.compartments["disc"] < 0.01))
    assert (glow[:, 1] > 1.2 * glow[:, 0]).all()
    assert (artery[:, 1] < 0.5 * artery[:, 2]).all()


def test_vessels_alone_have_no_lesions(prepared_eyes):
    ill = prepare_drawn(draw_retina(1, 256, lesions={"haemorrhage": 20}))
    parameters = draw_parameters(torch.Generator().manual_seed(5), 1, size=256, painting=0.0, augment=False)
    alone = render_parameters(stack_eyes([ill]), parameters, lesions=False)
    with_lesions = render_parameters(stack_eyes([ill]), parameters, lesions=True)
    blood = with_lesions.lesions[:, HAEMORRHAGE] > 0.8
    assert alone.frames[0, 5][blood[0]].mean() > 1.5 * with_lesions.frames[0, 5][blood[0]].mean()
    assert not alone.painted.any()
