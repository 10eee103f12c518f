"""One pass gives the terms that were asked for, and each sees what it should."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from crude_stream import CrudeStream

from retina_fm.network import Generator
from retina_fm.network.architecture import ANATOMY
from retina_fm.training.pretraining.losses.discriminators import Discriminators
from retina_fm.training.pretraining.losses.learner import Learner, total_loss, wanted_frames
from retina_fm.training.pretraining.losses.perceptual import PerceptualFeatures, load_perceptual
from retina_fm.training.pretraining.optimisation import initialise_modules, rate_factor
from retina_fm.training.pretraining.presets import PRESETS, LossWeights, Optimiser, preset_named

ALL = LossWeights(
    reconstruction=5, correlation=1, lesions=1, adversarial=2, feature_matching=10, patch_nce=1,
    attention=4, gradient_variance=1, agreement=1, lesion_load=1, vessels=1,
    anatomy=1, artery_or_vein=1,
)  # fmt: skip


@pytest.fixture(scope="module")
def parts():
    tiny = preset_named("tiny")
    mapped = tiny.architecture.model_copy(update={"vessels": True, "anatomy": ANATOMY})
    preset = tiny.model_copy(update={"weights": ALL, "architecture": mapped})
    learner, judge = Learner(preset), Discriminators(width=4)
    initialise_modules([learner.generator, learner.heads, judge], preset, 0)
    samples = CrudeStream().batch_at(0)
    parts = samples.mask.repeat(1, len(ANATOMY), 1, 1)
    parts[:, ANATOMY.index("vein")] *= 0.2
    mapped_samples = dataclasses.replace(samples, vessels=samples.mask, anatomy=parts)
    return learner, judge, mapped_samples


def test_every_term_is_computed_and_reaches_the_generator(parts):
    learner, judge, samples = parts
    judge.requires_grad_(False)
    for name in LossWeights.model_fields:
        if name == "perceptual":
            continue
        learner.zero_grad()
        weights = LossWeights().model_copy(update={name: 1.0})
        terms = learner(samples, weights, judge, 0).terms
        assert list(terms) == [name]
        total_loss(terms, weights).backward()
        stem = learner.generator.model[1].weight.grad
        assert stem is not None, name
        assert stem.abs().sum() > 0, name


def test_a_term_of_weight_0_is_not_computed(parts):
    learner, judge, samples = parts
    assert set(learner(samples, LossWeights(reconstruction=1), judge, 0).terms) == {"reconstruction"}


def test_generated_frames_are_black_outside_the_field_of_view(parts):
    learner, _, samples = parts
    frames = learner(samples, LossWeights(reconstruction=1), None, 0).frames
    assert (frames[(samples.field_of_view == 0).expand_as(frames)] == -1).all()


def test_patch_contrast_sees_the_mask_alone(parts):
    learner, _, samples = parts
    mask = torch.zeros_like(samples.mask)
    mask[:, :, 20:40, 20:40] = 1
    weights = LossWeights(patch_nce=1)
    samples = dataclasses.replace(samples, mask=mask)
    first = learner(samples, weights, None, 3).terms["patch_nce"]
    photo = samples.photo.clone()
    photo[:, :, 60:, 60:] = 1.0  # changes the generated frames too, so compare the contrast itself
    frames = learner(samples, weights, None, 3).frames
    again = learner._contrast(frames, photo, mask, 3)
    assert torch.allclose(first, again, atol=1e-5)
    inside = samples.photo.clone()
    inside[:, :, 25:35, 25:35] = 1.0
    other = learner._contrast(frames, inside, mask, 3)
    assert not torch.allclose(first, other, atol=1e-4)


def test_the_papers_contrast_is_half_against_the_photo_and_half_against_the_true_frames(parts):
    learner, _, samples = parts
    weights = preset_named("fundus2video-paper").weights
    assert (weights.patch_nce, weights.patch_identity) == (0.5, 0.5)
    terms = learner(samples, LossWeights(patch_nce=0.5, patch_identity=0.5), None, 3).terms
    assert set(terms) == {"patch_nce", "patch_identity"}
    frames = learner(samples, LossWeights(patch_nce=1), None, 3).frames
    expected = learner._contrast(frames, samples.target, samples.mask, 3)
    assert torch.allclose(terms["patch_identity"], expected, atol=1e-5)
    assert not torch.allclose(terms["patch_identity"], terms["patch_nce"], atol=1e-4)


def test_the_comparison_models_learn_one_venous_frame():
    samples = CrudeStream().batch_at(0)
    wanted = wanted_frames(samples, True)
    assert torch.equal(wanted[:, 0], samples.target[:, 1])
    assert torch.equal(wanted[:, 2], samples.target[:, 1])
    for name in ("fundus2fa", "pix2pixhd"):
        assert PRESETS[name].video_steps == (5,), "frames 5 to 7, whose middle is venous"


def test_initial_weights_depend_on_the_seed_alone():
    preset = preset_named("tiny")
    first, second, third = (Generator(preset.architecture) for _ in range(3))
    initialise_modules([first], preset, 1)
    initialise_modules([second], preset, 1)
    initialise_modules([third], preset, 2)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert not torch.equal(first.model[1].weight, third.model[1].weight)
    lesions = first.lesion_heads.stride4.bias.sigmoid()
    assert lesions.max() < 0.1, "most pixels have no lesion"


def test_the_rate_warms_up_and_falls():
    cosine = Optimiser(warm_up=10)
    assert rate_factor(cosine, 0, 0.0) == pytest.approx(0.1)
    assert rate_factor(cosine, 50, 0.5) == pytest.approx(0.51)
    assert rate_factor(cosine, 50, 1.0) == pytest.approx(0.02)
    decay = Optimiser(schedule="decay", warm_up=0)
    assert [rate_factor(decay, 9, p) for p in (0.0, 0.5, 0.75, 1.0)] == [1, 1, 0.5, 0]


def test_perceptual_features_come_from_a_vgg_file(tmp_path, parts):
    torch.manual_seed(0)
    values = {
        k: torch.randn_like(v) * 0.05 for k, v in PerceptualFeatures().state_dict().items() if "features" in k
    }
    torch.save(values, tmp_path / "vgg19.pth")
    module = load_perceptual(tmp_path / "vgg19.pth")
    frames = torch.rand(1, 3, 32, 32) * 2 - 1
    assert module(frames, frames) == 0
    assert module(frames, -frames) > 0
    assert not any(p.requires_grad for p in module.parameters())


def test_a_vessel_map_begins_with_few_vessels_and_few_lesions(parts):
    learner, _, samples = parts
    with torch.no_grad():
        made = learner.generator(samples.photo)
    assert 0.05 < float(made.vessels[0].sigmoid().mean()) < 0.25
    assert float(made.lesions[0].sigmoid().mean()) < 0.1


def test_samples_without_vessels_teach_no_vessel_map(parts):
    learner, judge, samples = parts
    weights = LossWeights(reconstruction=1, vessels=1)
    terms = learner(dataclasses.replace(samples, vessels=None), weights, judge, 0).terms
    assert set(terms) == {"reconstruction"}
