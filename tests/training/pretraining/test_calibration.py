from __future__ import annotations

import dataclasses

import pytest
import torch
import torch.nn.functional as F

from retina_fm.network import Architecture, Generator
from retina_fm.training.pretraining.calibration import calibrate, undo_calibration
from retina_fm.training.pretraining.data.samples import Samples, render_samples
from retina_fm.training.simulator.anatomy.drawn import draw_retina
from retina_fm.training.simulator.eyes.prepare import prepare_drawn

SHAPE = Architecture(width=4, encoder_blocks=1, skips=True, coarse_maps=True, vessels=True)


@pytest.fixture(scope="module")
def samples() -> Samples:
    eyes = [prepare_drawn(draw_retina(seed, 128)) for seed in range(6)]
    return render_samples(eyes, torch.Generator().manual_seed(0), painting=1.0)


def test_maps_become_probabilities_and_keep_their_order(samples: Samples) -> None:
    torch.manual_seed(0)
    generator = Generator(SHAPE).eval()
    with torch.no_grad():
        before = generator(samples.photo, samples.photo)
        fitted = calibrate(generator, [samples])
        after = generator(samples.photo, samples.photo)
    assert list(fitted) == ["stride1", "stride2", "stride4", "stride8"]
    assert samples.lesions is not None
    there = F.max_pool2d(samples.lesions, 2) > 0.3
    known = F.avg_pool2d(samples.field_of_view, 2)[:, 0] > 0.99
    changed = 0
    for index, (scale, offset) in enumerate(fitted["stride2"]):
        torch.testing.assert_close(
            after.lesions[1][:, index], before.lesions[1][:, index] * scale + offset, atol=1e-4, rtol=1e-4
        )
        if (scale, offset) != (1.0, 0.0):
            share = float(there[:, index][known].float().mean())
            assert float(after.lesions[1][:, index].sigmoid()[known].mean()) == pytest.approx(share, rel=0.1)
            changed += 1
    assert changed >= 1
    torch.testing.assert_close(after.frames, before.frames)
    for one, other in zip(before.vessels, after.vessels, strict=True):
        torch.testing.assert_close(one, other)


def test_eyes_with_unknown_lesions_calibrate_nothing(samples: Samples) -> None:
    unknown = dataclasses.replace(samples, lesion_known=torch.zeros(len(samples), dtype=torch.bool))
    generator = Generator(SHAPE)
    before = {key: value.clone() for key, value in generator.state_dict().items()}
    fitted = calibrate(generator, [unknown])
    assert all(pair == (1.0, 0.0) for pairs in fitted.values() for pair in pairs)
    assert all(torch.equal(value, before[key]) for key, value in generator.state_dict().items())


def test_what_calibration_did_is_undone(samples: Samples) -> None:
    torch.manual_seed(0)
    generator = Generator(SHAPE).eval()
    before = {key: value.clone() for key, value in generator.state_dict().items()}
    fitted = calibrate(generator, [samples])
    assert any(pair != (1.0, 0.0) for pairs in fitted.values() for pair in pairs)
    assert any(not torch.equal(value, before[key]) for key, value in generator.state_dict().items())
    undo_calibration(generator, fitted)
    for key, value in generator.state_dict().items():
        torch.testing.assert_close(value, before[key], atol=1e-5, rtol=1e-5)
