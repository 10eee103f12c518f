"""The automatic batch doubles while it fits and pays."""

from __future__ import annotations

import pytest
import torch

from retina_fm.training.pretraining.batch_size import blank_samples, largest_batch, search
from retina_fm.training.pretraining.presets import preset_named


def test_it_stops_where_memory_is_full():
    assert search(lambda batch: None if batch > 32 else 1 / batch) == 32


def test_it_stops_where_larger_batches_are_no_faster():
    assert search(lambda batch: 1 / min(batch, 8)) == 8


def test_one_slow_measurement_does_not_end_the_search():
    times = {1: 1.0, 2: 0.99, 4: 0.4, 8: 0.2}
    assert search(lambda batch: times.get(batch)) == 8


def test_a_cpu_keeps_the_presets_batch():
    assert largest_batch(preset_named("tiny"), "cpu", "float32") == preset_named("tiny").batch


@pytest.mark.parametrize("name", ["tiny", "fundus2video-paper", "pix2pixhd"])
def test_blank_samples_have_the_presets_shapes(name):
    preset = preset_named(name)
    samples = blank_samples(preset, 2, torch.device("cpu"))
    side = preset.curriculum.crops[0]
    assert samples.photo.shape == (2, 3, side, side)
    assert (samples.lesions is None) == (not preset.architecture.lesions)
