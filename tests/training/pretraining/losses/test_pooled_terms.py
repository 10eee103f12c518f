"""Agreement of views and lesion loads are their definitions, and a second view is the same eye."""

from __future__ import annotations

import math

import pytest
import torch
from crude_stream import CrudeStream

from retina_fm.training.pretraining.losses.pooled_terms import lesion_load, second_view, view_agreement


def slow_agreement(first, second):
    batch, length = first.shape
    invariance = sum(
        (float(a) - float(b)) ** 2 for a, b in zip(first.flatten(), second.flatten(), strict=True)
    )
    total = 25 * invariance / (batch * length)
    for vectors in (first, second):
        rows = [[float(v) for v in row] for row in vectors]
        means = [sum(row[j] for row in rows) / batch for j in range(length)]
        for j in range(length):
            variance = sum((row[j] - means[j]) ** 2 for row in rows) / (batch - 1)
            total += 25 * max(0.0, 1 - math.sqrt(variance + 1e-4)) / length / 2
            for k in range(length):
                if j != k:
                    products = [(row[j] - means[j]) * (row[k] - means[k]) for row in rows]
                    total += (sum(products) / (batch - 1)) ** 2 / length
    return total


def test_agreement_is_its_definition():
    torch.manual_seed(0)
    first, second = torch.randn(5, 4) * 0.5, torch.randn(5, 4)
    assert float(view_agreement(first, second)) == pytest.approx(slow_agreement(first, second), rel=1e-4)


def test_agreement_is_worst_where_all_eyes_collapse_to_one():
    torch.manual_seed(0)
    apart = torch.randn(64, 8)
    same = apart.mean(0).expand(64, 8)
    assert float(view_agreement(apart, apart)) < 3 < 20 < float(view_agreement(same, same))


def test_loads_count_lesions_inside_the_field_of_view_alone():
    lesions, inside = torch.zeros(1, 2, 10, 10), torch.zeros(1, 1, 10, 10)
    inside[..., :5] = 1
    lesions[:, 0, 0, 0] = 1
    lesions[:, 1, :, 7] = 1  # outside
    load = lesion_load(lesions, inside)
    assert float(load[0, 0]) == pytest.approx(math.log1p(0.02 / 1e-5))
    assert float(load[0, 1]) == 0


def test_a_second_view_is_the_mirrored_eye_in_another_light():
    samples = CrudeStream().batch_at(0)
    photo, inside = second_view(samples, 3)
    assert torch.equal(inside, samples.field_of_view.flip(-1))
    assert (photo[(inside == 0).expand_as(photo)] == -1).all()
    mirrored = samples.photo.flip(-1)
    assert not torch.allclose(photo, mirrored, atol=0.02)
    there = (inside > 0).expand_as(photo)
    assert torch.corrcoef(torch.stack([photo[there], mirrored[there]]))[0, 1] > 0.8
    assert torch.equal(photo, second_view(samples, 3)[0])
    assert not torch.equal(photo, second_view(samples, 4)[0])
