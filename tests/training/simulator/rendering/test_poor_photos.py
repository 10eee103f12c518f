from __future__ import annotations

import io

import numpy as np
import torch
from PIL import Image

from retina_fm.training.pretraining.data.samples import render_samples
from retina_fm.training.simulator.anatomy.drawn import draw_retina
from retina_fm.training.simulator.eyes.prepare import prepare_drawn
from retina_fm.training.simulator.rendering.poor_photos import draw_poor, packed


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_targets_stay_exact_while_photos_are_degraded() -> None:
    eyes = [prepare_drawn(draw_retina(seed, 128)) for seed in range(4)]
    clean = render_samples(eyes, generator(), painting=0.0)
    poor = render_samples(eyes, generator(), painting=0.0, poor=1.0)
    both = (clean.field_of_view * poor.field_of_view) > 0.5
    assert poor.vessels is not None and clean.vessels is not None
    assert torch.equal(poor.vessels[both], clean.vessels[both])
    assert torch.equal(poor.target[both.expand_as(poor.target)], clean.target[both.expand_as(clean.target)])
    assert float((poor.photo - clean.photo)[both.expand_as(poor.photo)].abs().mean()) > 0.05


def test_cut_fields_are_cut_in_photo_frames_and_field_alike() -> None:
    eyes = [prepare_drawn(draw_retina(seed, 128)) for seed in range(8)]
    whole = render_samples(eyes, generator(), poor=0.0).field_of_view.mean((1, 2, 3))
    poor = render_samples(eyes, generator(), poor=1.0)
    shown = poor.field_of_view.mean((1, 2, 3))
    cut = shown < 0.97 * whole
    assert 0 < int(cut.sum()) < 8 and bool((shown <= whole).all())
    outside = poor.field_of_view < 0.5
    assert float(poor.photo[outside.expand_as(poor.photo)].max()) == -1
    assert float(poor.target[outside.expand_as(poor.target)].max()) == -1


def test_without_poor_photos_nothing_else_is_drawn() -> None:
    drawn = draw_poor(generator(), 512, 0.3)
    touched = (
        (drawn["poor_gain"] != 1)
        | (drawn["poor_haze"] > 0)
        | (drawn["poor_blur"] > 0)
        | (drawn["poor_packing"] > 0)
    )
    assert 0.2 < float(touched.float().mean()) < 0.35
    none = draw_poor(generator(), 64, 0.0)
    assert float(none["poor_haze"].max()) == 0 and float(none["poor_cut"][:, 1].min()) > 2


def test_packing_is_that_of_jpeg() -> None:
    picture = draw_retina(1, 128).photo
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=25, subsampling=0)
    wanted = np.asarray(Image.open(buffer)).astype(np.float32) / 255
    photo = torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 255
    ours = packed(photo, torch.tensor([2.0]))[0].permute(1, 2, 0).numpy()  # quality 25 doubles the table
    original = picture.astype(np.float32) / 255
    assert np.abs(ours - wanted).mean() < 0.35 * np.abs(wanted - original).mean()
    assert torch.equal(packed(photo, torch.zeros(1)), photo)


def test_eyes_teach_their_anatomy() -> None:
    samples = render_samples([prepare_drawn(draw_retina(2, 128))], generator(), painting=0.0)
    assert samples.anatomy is not None
    y, x = np.unravel_index(int(samples.anatomy[0, 3].argmax()), samples.anatomy.shape[-2:])
    assert float(samples.anatomy[0, 3, y, x]) > 0.8 and 20 < int((samples.anatomy[0, 3] > 0).sum()) < 2000
    assert samples.vessels is not None
    both = samples.anatomy[:, :2].sum(1, keepdim=True).clamp(0, 1)
    assert torch.allclose(both, samples.vessels, atol=1e-5)
