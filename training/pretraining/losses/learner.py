"""One forward pass of training: samples to named loss terms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from retina_fm.network import Generator
from retina_fm.network.architecture import ANATOMY
from retina_fm.network.encoder import run_trunk
from retina_fm.network.masks import OUTSIDE
from retina_fm.training.pretraining.data.samples import Samples
from retina_fm.training.pretraining.losses import terms as losses
from retina_fm.training.pretraining.losses.discriminators import Discriminators
from retina_fm.training.pretraining.losses.perceptual import PerceptualFeatures
from retina_fm.training.pretraining.losses.pooled_terms import (
    PooledHeads,
    lesion_load,
    second_view,
    view_agreement,
)
from retina_fm.training.pretraining.presets import LossWeights, Preset

_PATCHES = 256
_PATCH_LENGTH = 256
_BARELY = 1e-4  # weight of places outside the mask: drawn only where the mask has too few


class Learned(NamedTuple):
    """Loss terms by name, unweighted; the generated frames ``(B, 3, H, W)``, -1 outside."""

    terms: dict[str, Tensor]
    frames: Tensor


class PatchHeads(nn.Module):
    """Two-layer projections of the encoder's five maps to unit vectors, for the contrast of patches."""

    def __init__(self, channels: tuple[int, ...]) -> None:
        super().__init__()
        self.levels = nn.ModuleList(
            nn.Sequential(nn.Linear(c, _PATCH_LENGTH), nn.ReLU(), nn.Linear(_PATCH_LENGTH, _PATCH_LENGTH))
            for c in channels
        )

    def forward(self, level: int, maps: Tensor, places: Tensor) -> Tensor:
        """Unit vectors ``(B, P, 256)`` of a map ``(B, C, h, w)`` at flat places ``(B, P)``."""
        chosen = maps.flatten(2).gather(2, places[:, None].expand(-1, maps.shape[1], -1)).transpose(1, 2)
        return F.normalize(self.levels[level](chosen), dim=-1)


class Heads(nn.Module):
    """What is trained beside the generator and thrown away: projections that single terms need.

    Attributes:
        patches: for the contrast of patches, or None.
        pooled: for terms on the pooled photo, or None.
    """

    def __init__(self, preset: Preset) -> None:
        super().__init__()
        weights, architecture = preset.weights, preset.architecture
        contrast = weights.patch_nce > 0 or weights.patch_identity > 0
        self.patches = PatchHeads(architecture.channels) if contrast else None
        agreement, load = weights.agreement > 0, weights.lesion_load > 0
        self.pooled = (
            PooledHeads(architecture, agreement=agreement, lesion_load=load) if agreement or load else None
        )


class Learner(nn.Module):
    """Generator and heads with their loss: what one process trains, and what is wrapped for many.

    Attributes:
        generator: the network itself.
        heads: of terms that need some, or None.
        perceptual: frozen VGG features, or None.
    """

    def __init__(self, preset: Preset, perceptual: PerceptualFeatures | None = None) -> None:
        super().__init__()
        self.generator = Generator(preset.architecture)
        heads = Heads(preset)
        self.heads = heads if any(True for _ in heads.parameters()) else None
        self.single_frame = preset.single_frame
        self.perceptual = perceptual

    def forward(
        self, samples: Samples, weights: LossWeights, judge: Discriminators | None, seed: int
    ) -> Learned:
        """Predict the next triple and compare.

        Args:
            samples: a batch.
            weights: terms of weight 0 are not computed.
            judge: discriminators whose parameters take no gradient; needed by adversarial terms.
            seed: of the places where patches are contrasted.
        """
        target = wanted_frames(samples, self.single_frame)
        made = self.generator(samples.photo, samples.last)
        inside = samples.field_of_view
        sure = inside if samples.sure is None else samples.sure
        frames = torch.where(inside > 0.5, made.frames, made.frames.new_tensor(OUTSIDE))
        terms: dict[str, Tensor] = {}
        if weights.reconstruction > 0:
            terms["reconstruction"] = losses.weighted_l1(frames.float(), target, sure)
        if weights.correlation > 0:
            terms["correlation"] = losses.correlation_loss(frames.float(), target, sure)
        if weights.lesions > 0 and made.lesions and samples.lesions is not None:
            terms["lesions"] = losses.dense_lesions(
                made.lesions,
                samples.lesions,
                inside,
                samples.lesion_known,
                vessels=samples.vessels,
                sure=sure,
            )
        if weights.vessels > 0 and made.vessels and samples.vessels is not None:
            terms["vessels"] = losses.dense_vessels(made.vessels, samples.vessels, sure)
        if made.anatomy and samples.anatomy is not None:
            terms.update(self._anatomy_terms(made.anatomy, samples.anatomy, weights, inside, sure))
        if weights.attention > 0 and made.attention is not None:
            terms["attention"] = losses.attention_loss(made.attention.float(), samples.mask, inside)
        if weights.gradient_variance > 0:
            terms["gradient_variance"] = losses.gradient_variance(frames, target)
        if weights.perceptual > 0 and self.perceptual is not None:
            terms["perceptual"] = self.perceptual(frames, target)
        if self.heads is not None:
            if self.heads.patches is not None:
                if weights.patch_nce > 0:
                    terms["patch_nce"] = self._contrast(frames, samples.photo, samples.mask, seed)
                if weights.patch_identity > 0:
                    terms["patch_identity"] = self._contrast(frames, target, samples.mask, seed)
            if (weights.agreement > 0 or weights.lesion_load > 0) and self.heads.pooled is not None:
                terms.update(self._pooled_terms(samples, weights, self.heads.pooled, seed))
        if judge is not None and (weights.adversarial > 0 or weights.feature_matching > 0):
            fake = judge(samples.photo, frames, samples.mask)
            if weights.adversarial > 0:
                terms["adversarial"] = losses.lsgan_generator([s.float() for s in fake.scores])
            if weights.feature_matching > 0:
                with torch.no_grad():
                    real = judge(samples.photo, target, samples.mask)
                terms["feature_matching"] = losses.feature_matching(real.maps, fake.maps)
        return Learned(terms, frames)

    def _anatomy_terms(
        self, logits: Sequence[Tensor], anatomy: Tensor, weights: LossWeights, inside: Tensor, sure: Tensor
    ) -> dict[str, Tensor]:
        terms: dict[str, Tensor] = {}
        names = self.generator.architecture.anatomy
        wanted = anatomy[:, [ANATOMY.index(name) for name in names]]
        if weights.anatomy > 0:
            # A disc can be known where vessels are in doubt.
            known = torch.cat([sure if name in ("artery", "vein") else inside for name in names], 1)
            terms["anatomy"] = losses.dense_anatomy(logits, wanted, known)
        if weights.artery_or_vein > 0:
            both = [names.index("artery"), names.index("vein")]
            terms["artery_or_vein"] = losses.artery_or_vein(
                [maps[:, both] for maps in logits], wanted[:, both], sure
            )
        return terms

    def _pooled_terms(
        self, samples: Samples, weights: LossWeights, heads: PooledHeads, seed: int
    ) -> dict[str, Tensor]:
        terms: dict[str, Tensor] = {}
        pooled = heads.pooled(self.generator.model, samples.photo, samples.field_of_view)
        if weights.lesion_load > 0 and heads.load is not None and samples.lesions is not None:
            wanted = lesion_load(samples.lesions, samples.field_of_view)
            terms["lesion_load"] = F.smooth_l1_loss(heads.load(pooled).float(), wanted)
        if weights.agreement > 0 and heads.expander is not None:
            other = heads.pooled(self.generator.model, *second_view(samples, seed))
            terms["agreement"] = view_agreement(heads.expander(pooled), heads.expander(other))
        return terms

    def _contrast(self, frames: Tensor, other: Tensor, mask: Tensor, seed: int) -> Tensor:
        """Mask-enhanced PatchNCE: generated frames against the photo, or against the true frames.

        All are multiplied by the knowledge mask.

        Both pass through the encoder as a photo does at the first step (twice). Places are drawn inside the
        mask as long as it has enough of them.
        """
        assert self.heads is not None and self.heads.patches is not None
        architecture = self.generator.architecture
        doubled = architecture.in_channels // 3
        fake, real = ((x * mask).repeat(1, doubled, 1, 1) for x in (frames, other))
        queries = run_trunk(self.generator.model, fake, architecture.encoder_blocks)
        with torch.no_grad():
            keys = [maps for _, maps in run_trunk(self.generator.model, real, architecture.encoder_blocks)]
        random = torch.Generator(device=frames.device).manual_seed(seed)
        terms = []
        for level, (_, query) in enumerate(queries):
            share = F.adaptive_avg_pool2d(mask, (query.shape[-2], query.shape[-1])).flatten(1)
            places = torch.multinomial(share + _BARELY, min(_PATCHES, share.shape[1]), generator=random)
            vectors = self.heads.patches(level, query, places)
            with torch.no_grad():
                others = self.heads.patches(level, keys[level], places)
            terms.append(losses.patch_nce(vectors, others))
        return torch.stack(terms).mean()


def wanted_frames(samples: Samples, single_frame: bool) -> Tensor:
    """The frames to predict: the triple, or its middle three times for the comparison models."""
    return samples.target[:, 1:2].expand(-1, 3, -1, -1) if single_frame else samples.target


def total_loss(terms: dict[str, Tensor], weights: LossWeights) -> Tensor:
    """Weighted sum of the terms that were computed."""
    return torch.stack([getattr(weights, name) * term.float() for name, term in terms.items()]).sum()
