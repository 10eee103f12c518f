"""Rendering is repeatable, aligned and bounded; samples and their stream are exact."""

from __future__ import annotations

import pytest
import torch
from crude_stream import sample_steps

from retina_fm.errors import ConfigError, NoPicturesError
from retina_fm.training import (
    RenderedSamples,
    draw_parameters,
    render_batch,
    render_parameters,
    render_samples,
    stack_eyes,
)
from retina_fm.training.pretraining.data.samples import needed_frames
from retina_fm.training.pretraining.data.streams import StreamSettings, pass_order
from retina_fm.training.simulator.eyes.prepared import load_eye
from retina_fm.training.simulator.rendering.lesion_painting import HAEMORRHAGE
from retina_fm.training.simulator.rendering.parameters import Parameters


def test_same_seed_gives_same_bytes(prepared_eyes):
    first, second = (
        render_batch(prepared_eyes, torch.Generator().manual_seed(1), painting=1.0) for _ in range(2)
    )
    for name in ("frames", "photo", "mask", "lesions", "times"):
        assert torch.equal(getattr(first, name), getattr(second, name))
    third = render_batch(prepared_eyes, torch.Generator().manual_seed(2), painting=1.0)
    assert not torch.equal(first.frames, third.frames)


def parameters_from_lists(values):
    """Reads what ``Parameters.as_lists`` wrote."""
    whole = {"noise_seed", "flip", "painted", "spot_batch", "spot_anchor", "spot_kind"}
    return Parameters(
        {
            name: torch.tensor(value, dtype=torch.int64 if name in whole else torch.float32)
            for name, value in values.items()
        }
    )


def test_recorded_parameters_give_the_sequence_again(prepared_eyes):
    first = render_batch(prepared_eyes[:2], torch.Generator().manual_seed(1), crop=128, painting=1.0)
    again = parameters_from_lists(first.parameters.as_lists())
    second = render_parameters(stack_eyes(prepared_eyes[:2]), again, side=128)
    assert torch.allclose(first.frames, second.frames, atol=1e-5)
    assert torch.allclose(first.photo, second.photo, atol=1e-5)


def test_shapes_ranges_and_order(painted_sequences):
    r = painted_sequences
    assert r.frames.shape == (4, 12, 256, 256)
    assert r.frames.dtype == torch.float32
    assert r.frames.min() >= 0
    assert r.frames.max() <= 1
    assert r.photo.shape == (4, 3, 256, 256)
    assert r.photo.min() == -1
    assert r.photo.max() <= 1
    assert r.lesions.shape == (4, 6, 256, 256)
    assert (r.times.diff(dim=1) > 0).all()
    assert r.painted.all()


def test_nothing_is_drawn_outside_the_field_of_view(painted_sequences):
    r = painted_sequences
    outside = r.field_of_view == 0
    assert outside.any()
    assert r.frames[outside.expand_as(r.frames)].abs().max() == 0
    assert (r.photo[outside.expand_as(r.photo)] == -1).all()
    assert r.lesions[outside.expand_as(r.lesions)].max() == 0


def test_some_frames_are_the_same_as_in_the_whole_sequence(prepared_eyes):
    parameters = draw_parameters(torch.Generator().manual_seed(6), 4, size=256, painting=1.0)
    whole = render_parameters(stack_eyes(prepared_eyes), parameters)
    index = torch.tensor([[0, 4, 7, 11], [0, 1, 2, 11], [0, 9, 10, 11], [0, 5, 3, 11]])
    part = render_parameters(stack_eyes(prepared_eyes), parameters, frames=index)
    chosen = torch.stack([whole.frames[i, index[i]] for i in range(4)])
    assert torch.allclose(part.frames, chosen, atol=1e-6)
    assert torch.equal(part.mask, whole.mask)


def test_photo_frames_and_lesions_turn_together(prepared_eyes):
    """Vessels of the turned photo lie where the turned frames have them."""
    r = render_batch(prepared_eyes, torch.Generator().manual_seed(12), painting=0.0)
    vessel = ((r.compartments["artery"] + r.compartments["vein"]) > 0.8) & (r.compartments["disc"] < 0.01)
    plain = (r.compartments["artery"] + r.compartments["vein"] < 0.02) & (r.field_of_view > 0)
    plain &= r.compartments["disc"] < 0.01
    for i in range(4):
        assert r.frames[i, 6][vessel[i, 0]].mean() > 1.2 * r.frames[i, 6][plain[i, 0]].mean()
        assert r.photo[i, 1][vessel[i, 0]].mean() < r.photo[i, 1][plain[i, 0]].mean()


def test_painted_blood_darkens_the_photo(prepared_eyes):
    parameters = draw_parameters(torch.Generator().manual_seed(4), 4, size=256, painting=1.0, augment=False)
    clean = parameters.to("cpu")
    painted = render_parameters(stack_eyes(prepared_eyes), parameters)
    none = render_parameters(stack_eyes(prepared_eyes), clean, lesions=False)
    blood = painted.lesions[:, HAEMORRHAGE] > 0.7
    assert blood.any()
    green, before = painted.photo[:, 1][blood], none.photo[:, 1][blood]
    assert (green + 1).mean() < 0.8 * (before + 1).mean()


def test_degradation_changes_the_photo_and_not_the_frames(prepared_eyes):
    parameters = draw_parameters(torch.Generator().manual_seed(4), 4, size=256, painting=0.0)
    other = parameters.to("cpu")
    other["photo_haze"] = torch.full((4,), 0.4)
    other["photo_gamma"] = other["photo_gamma"] * 1.3
    one, two = (render_parameters(stack_eyes(prepared_eyes), p) for p in (parameters, other))
    assert torch.equal(one.frames, two.frames)
    assert not torch.equal(one.photo, two.photo)


def test_eye_movements_shift_frames_by_the_recorded_amount(prepared_eyes):
    parameters = draw_parameters(torch.Generator().manual_seed(4), 1, size=256, painting=0.0, augment=False)
    parameters["shift"] = torch.tensor([[[0.0, 0.0]] * 11 + [[3.0, 0.0]]])
    parameters["noise"] = torch.zeros(1)
    still = render_parameters(stack_eyes(prepared_eyes[:1]), parameters)
    moved = render_parameters(stack_eyes(prepared_eyes[:1]), parameters, motion=1.0)
    assert torch.allclose(moved.frames[0, 5], still.frames[0, 5], atol=1e-5)
    inner = slice(60, 190)
    assert torch.allclose(moved.frames[0, 11, 63:193, inner], still.frames[0, 11, inner, inner], atol=1e-3)


def test_step_zero_has_the_photo_as_last(painted_sequences):
    r = painted_sequences
    samples = sample_steps(r.frames, r.photo, torch.Generator().manual_seed(0), steps=[0])
    assert torch.equal(samples.last, samples.photo)
    inside = r.field_of_view[:, 0] > 0
    assert torch.allclose(samples.target[:, 0][inside], r.frames[:, 0][inside] * 2 - 1)


def test_later_steps_have_the_frames_before(painted_sequences):
    r = painted_sequences
    samples = sample_steps(
        r.frames, r.photo, torch.Generator().manual_seed(0), field_of_view=r.field_of_view, steps=[4]
    )
    inside = (r.field_of_view > 0).expand(-1, 3, -1, -1)
    assert torch.allclose(samples.last[inside], (r.frames[:, 3:6] * 2 - 1)[inside])
    assert torch.allclose(samples.target[inside], (r.frames[:, 4:7] * 2 - 1)[inside])
    assert torch.equal(samples.mask, r.mask)
    assert (samples.target[~inside] == -1).all()


def test_samples_need_six_frames_only():
    assert needed_frames(torch.tensor([0, 3, 9])).tolist() == [
        [0, 0, 0, 1, 2, 11],
        [0, 2, 3, 4, 5, 11],
        [0, 8, 9, 10, 11, 11],
    ]


def test_rendered_samples_agree_with_whole_sequences(prepared_eyes):
    samples = render_samples(
        prepared_eyes, torch.Generator().manual_seed(5), crop=96, painting=1.0, steps=[2]
    )
    generator = torch.Generator().manual_seed(5)
    torch.randint(0, 1, (4,), generator=generator)
    whole = render_batch(prepared_eyes, generator, crop=96, painting=1.0)
    inside = (whole.field_of_view > 0).expand(-1, 3, -1, -1)
    assert torch.allclose(samples.target[inside], (whole.frames[:, 2:5] * 2 - 1)[inside], atol=1e-5)
    assert torch.equal(samples.mask, whole.mask)


def test_stream_continues_exactly(prepared_eyes, tmp_path):
    for i, eye in enumerate(prepared_eyes):
        eye.save(tmp_path / f"{i}.eye.safetensors")
    stream = RenderedSamples(tmp_path, crop=64, batch=3, seed=7)
    for _ in range(3):
        next(stream)
    state = stream.state_dict()
    expected = [next(stream) for _ in range(2)]
    resumed = RenderedSamples(tmp_path, crop=64, batch=3)
    resumed.load_state_dict(state)
    for before, after in zip(expected, [next(resumed) for _ in range(2)], strict=True):
        for name in ("photo", "last", "target", "mask", "lesions", "step"):
            assert torch.equal(getattr(before, name), getattr(after, name))


def test_resident_eyes_give_the_same_samples(prepared_eyes):
    streams = [
        RenderedSamples(prepared_eyes, crop=64, batch=3, seed=1, resident=flag) for flag in (False, True)
    ]
    a, b = (next(stream) for stream in streams)
    assert torch.equal(a.target, b.target)


def test_every_eye_is_seen_once_a_pass():
    assert sorted(pass_order(0, 0, 2, 4) + pass_order(0, 1, 2, 4)) == [0, 1, 2, 3]
    assert sorted(pass_order(0, 2, 2, 4) + pass_order(0, 3, 2, 4)) == [0, 1, 2, 3]
    first = pass_order(0, 0, 3, 4) + pass_order(0, 1, 3, 4)
    assert sorted(first[:4]) == [0, 1, 2, 3]


def test_stream_refuses_another_set_of_eyes(prepared_eyes):
    state = RenderedSamples(prepared_eyes, batch=2).state_dict()
    with pytest.raises(ConfigError, match="eyes=4"):
        RenderedSamples(prepared_eyes[:3], batch=2).load_state_dict(state)


def test_stream_refuses_as_many_other_files_and_another_kind_of_data(tmp_path):
    stream, other = (RenderedSamples([tmp_path / f"{n}{i}.eye" for i in "12"], batch=2) for n in "ab")
    state = stream.state_dict()
    with pytest.raises(ConfigError, match="--data"):
        other.load_state_dict(state)
    with pytest.raises(ConfigError, match="another mix"):
        stream.load_state_dict({"shares": [1, 2], "streams": [state, state], "index": 0})
    RenderedSamples([tmp_path / "moved" / f"a{i}.eye" for i in "12"], batch=2).load_state_dict(state)
    del state["data"]  # as earlier releases wrote it
    other.load_state_dict({**state, "index": 3})
    assert other.index == 3


def test_empty_folder_is_named(tmp_path):
    with pytest.raises(NoPicturesError, match="retina-fm prepare"):
        RenderedSamples(tmp_path)


def test_eye_survives_its_file(prepared_eyes, tmp_path):
    prepared_eyes[0].save(tmp_path / "a.eye.safetensors")
    again = load_eye(tmp_path / "a.eye.safetensors")
    assert (again.maps == prepared_eyes[0].maps).all()
    assert (again.lesions == prepared_eyes[0].lesions).all()
    assert again.disc_centre == prepared_eyes[0].disc_centre
    assert [p.name for p in tmp_path.iterdir()] == ["a.eye.safetensors"]


def test_a_misspelt_setting_of_a_stream_is_refused(prepared_eyes):
    stream = RenderedSamples(prepared_eyes, batch=2, painting=0.25)
    assert stream.settings == StreamSettings(painting=0.25)
    with pytest.raises(ConfigError, match="Did you mean 'painting'"):
        StreamSettings(paintng=0.0)
    with pytest.raises(ConfigError, match=r"stream\.poor is 2"):
        RenderedSamples(prepared_eyes, poor=2.0)
    with pytest.raises(AttributeError, match="painting"):
        stream.painting = 0.0
