"""Makes lesion maps probabilities again: training balances them, so that one half means far less than a half.

The loss gives the few pixels of a lesion as much weight as all others, which is what makes a map find them,
and what makes it say one half of places where one in a hundred is a lesion. A scale and an offset a type and
stride, fitted on eyes whose every lesion is known, undo it (Platt 1999), and go into the last convolution's
weights: the order of pixels stays, and nothing is computed anew in use.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from retina_fm.errors import ConfigError
from retina_fm.network import Generator
from retina_fm.training.pairs.table import is_pairs
from retina_fm.training.pretraining.data.samples import RenderedSamples, Samples, list_eyes
from retina_fm.training.simulator.eyes.prepared import knows_all_lesions
from retina_fm.vocabulary import FRAMES_A_PASS

_KEPT = 20_000  # pixels a batch, type and stride: enough for two numbers
_FEWEST = 50  # pixels of a lesion, without which a type stays as it is


def known_windows(data: Iterable[str | Path], count: int, crop: int | None) -> Iterator[Samples]:
    """Windows of prepared eyes whose every lesion is known, half of them painted, evenly drawn.

    Args:
        data: of a run; paired videos and eyes with unknown lesions are passed over.
        count: windows in all.
        crop: side of a window in pixels; the whole view when None.

    Raises:
        ConfigError: there is no such eye.
    """
    places = dict.fromkeys(Path(place).resolve() for place in data if not is_pairs(place))
    known = [path for place in places for path in list_eyes(place) if knows_all_lesions(path)]
    if not known:
        raise ConfigError(
            "No eye of the run's data has every lesion known, so that lesion maps cannot be calibrated. Add "
            "drawn eyes or healthy ones (retina-fm prepare --drawn, --healthy), or leave --calibrate out."
        )
    chosen = [known[int(at)] for at in np.linspace(0, len(known) - 1, min(count, len(known)))]
    stream = RenderedSamples(chosen, crop=crop, batch=1, seed=7, painting=0.5, steps=(0,), keep=1)
    for number in range(count):
        yield stream.batch_at(number)


@torch.no_grad()
def calibrate(generator: Generator, batches: Iterable[Samples]) -> dict[str, list[tuple[float, float]]]:
    """Scale and shift the lesion logits of a generator, in place, so that they are log odds.

    Args:
        generator: with lesion maps; it stays in evaluation mode.
        batches: of eyes whose every lesion is known; others are passed over.

    Returns:
        Scale and offset of each lesion type, by the name of the convolution that they went into.
    """
    generator.eval()
    outputs = list(_outputs(generator))
    found: list[list[tuple[list[Tensor], list[Tensor]]]] = [
        [([], []) for _ in generator.architecture.lesions] for _ in outputs
    ]
    random = torch.Generator().manual_seed(0)
    for samples in batches:
        if samples.lesions is None or samples.lesion_known is None or not bool(samples.lesion_known.any()):
            continue
        made = generator(samples.photo, samples.photo)
        for pairs, logits in zip(found, made.lesions, strict=True):
            _collect(pairs, logits, samples, random)
    fitted = {}
    for (name, layer, first), pairs in zip(outputs, found, strict=True):
        assert layer.bias is not None
        fitted[name] = [_fitted(*map(_joined, pair)) for pair in pairs]
        for index, (scale, offset) in enumerate(fitted[name], first):
            layer.weight[index] *= scale
            layer.bias[index] = layer.bias[index] * scale + offset
    return fitted


@torch.no_grad()
def undo_calibration(generator: Generator, fitted: Mapping[str, Sequence[Sequence[float]]]) -> None:
    """Take :func:`calibrate`'s scales and offsets out again, in place, before training goes on.

    The balanced loss of calibrated maps is twice that of the same maps before (10.6 and 4.7, five batches of
    `fundus2video`), and the trunk would be trained on that difference first.

    Args:
        generator: with lesion maps.
        fitted: what ``calibrate`` returned, as an export's provenance keeps it.
    """
    for name, layer, first in _outputs(generator):
        assert layer.bias is not None
        for index, (scale, offset) in enumerate(fitted.get(name, ()), first):
            layer.weight[index] /= scale
            layer.bias[index] = (layer.bias[index] - offset) / scale


def _outputs(generator: Generator) -> Iterator[tuple[str, nn.Conv2d, int]]:
    """Convolutions that give lesion logits, with the channel of the first type, from fine to coarse."""
    last = generator.model[-1]
    assert isinstance(last, nn.Conv2d) and generator.lesion_heads is not None
    yield "stride1", last, FRAMES_A_PASS
    if generator.coarse is not None:
        yield "stride2", generator.coarse, 0
    yield "stride4", generator.lesion_heads.stride4, 0
    yield "stride8", generator.lesion_heads.stride8, 0


def _collect(
    pairs: list[tuple[list[Tensor], list[Tensor]]], logits: Tensor, samples: Samples, random: torch.Generator
) -> None:
    assert samples.lesions is not None and samples.lesion_known is not None
    stride = samples.lesions.shape[-1] // logits.shape[-1]
    there = F.max_pool2d(samples.lesions, stride) if stride > 1 else samples.lesions
    inside = F.avg_pool2d(samples.field_of_view, stride) > 0.99
    known = (inside & samples.lesion_known.view(-1, 1, 1, 1))[:, 0]
    for index, (values, truths) in enumerate(pairs):
        some = logits[:, index].float()[known]
        chosen = torch.randperm(len(some), generator=random)[:_KEPT].to(some.device)
        values.append(some[chosen].cpu())
        truths.append((there[:, index][known][chosen] > 0.3).float().cpu())


def _joined(parts: list[Tensor]) -> Tensor:
    return torch.cat(parts) if parts else torch.zeros(0)


def _fitted(values: Tensor, truths: Tensor) -> tuple[float, float]:
    """Scale and offset of the logits by logistic regression; (1, 0) where there are too few lesions."""
    from sklearn.linear_model import LogisticRegression

    if float(truths.sum()) < _FEWEST or float((1 - truths).sum()) < _FEWEST:
        return 1.0, 0.0
    model = LogisticRegression(C=1e6).fit(values[:, None].numpy(), truths.numpy())
    scale = float(model.coef_[0, 0])
    # a map that tells nothing, or the wrong way round, must not be turned over
    return (scale, float(model.intercept_[0])) if scale > 0 else (1.0, 0.0)
