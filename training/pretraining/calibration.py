"""Makes lesion maps probabilities again: training balances them, so that one half means far less than a half.

The loss gives the few pixels of a lesion as much weight as all others, which is what makes a map find them,
and what makes it say one half of places where one in a hundred is a lesion. A scale and an offset a type and
stride, fitted on eyes whose every lesion is known, undo it (Platt 1999), and go into the last convolution's
weights: the order of pixels stays, and nothing is computed anew in use.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from retina_fm.network import Generator
from retina_fm.training.pretraining.data.samples import Samples
from retina_fm.vocabulary import FRAMES_A_PASS

_KEPT = 20_000  # pixels a batch, type and stride: enough for two numbers
_FEWEST = 50  # pixels of a lesion, without which a type stays as it is


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
