"""Peers whose weights are published as pickles under their own licences: how each is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from retina_fm.models import peer_keys
from retina_fm.models.contract import ModelCard
from retina_fm.pictures import Transform

_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Peer:
    """One reading of a published checkpoint.

    Attributes:
        name: in the registry.
        backbone: timm model whose tensors the checkpoint must match one by one.
        arguments: of that model.
        transform: photo to view.
        card: licence, training data and the pooling chosen.
        source: where the user gets the file.
        unwrap: keys under which a checkpoint may keep its tensors, or None for a plain state.
        prefix: of the tensors that belong to the backbone; only these are read.
        leave: prefixes of tensors that belong to something else (a decoder, a text tower), after renaming.
        rename: from published names to those of timm, or None.
        pooling: see :class:`~retina_fm.models.BackboneEncoder`.
    """

    name: str
    backbone: str
    arguments: Mapping[str, Any]
    transform: Transform
    card: ModelCard
    source: str
    unwrap: tuple[str, ...] | None = None
    prefix: str = ""
    leave: tuple[str, ...] = field(default=())
    rename: peer_keys.Rename | None = None
    pooling: str = "backbone"


# Upstream crops to the retina, resizes to 256 and takes the central 224.
_RETFOUND_VIEW = Transform(
    size=224, margin=224 / 256 - 1, resample="bicubic", mean=_IMAGENET_MEAN, std=_IMAGENET_STD
)
_RETFOUND_PAPER = (
    "Zhou et al., A foundation model for generalizable disease detection from retinal images, Nature 2023, "
    "doi 10.1038/s41586-023-06555-x"
)
_RETFOUND = Peer(
    name="retfound",
    backbone="vit_large_patch16_224",
    # Upstream fine-tunes with an `fc_norm` that the checkpoint does not hold; frozen features through it pass
    # an untrained layer. The checkpoint's own `norm` was trained, so it is used.
    arguments={"global_pool": "avg", "fc_norm": False},
    transform=_RETFOUND_VIEW,
    card=ModelCard(
        licence="CC-BY-NC-4.0",
        training_data="904 170 colour fundus photographs, mostly MEH-MIDAS (Zhou et al. 2023)",
        pooling="mean of the patch tokens after the checkpoint's own final norm",
        citation=_RETFOUND_PAPER,
    ),
    source="RETFound_mae_natureCFP.pth, on request from its authors at https://github.com/rmaphoh/RETFound",
    unwrap=("model",),
    leave=("decoder_", "mask_token"),
)
_RETFOUND_GREEN = Peer(
    name="retfound-green",
    backbone="vit_small_patch14_reg4_dinov2",
    arguments={"img_size": 392, "global_pool": "avg", "fc_norm": False},
    transform=Transform(size=392, margin=0.0, resample="bicubic"),
    card=ModelCard(
        licence="non-commercial: see the repository",
        training_data="75 000 colour fundus photographs (Engelmann and Bernabeu 2024)",
        pooling="mean of the patch tokens after the final norm, as in the repository's README",
        citation="Engelmann and Bernabeu, Training a high-performance retinal foundation model with "
        "half-the-data and 400 times less compute, arXiv 2405.00117",
    ),
    source="retfoundgreen_statedict.pth of https://github.com/justinengelmann/RETFound_Green",
)
_VISIONFM = Peer(
    name="visionfm",
    backbone="vit_base_patch16_224",
    arguments={},
    transform=Transform(
        size=224,
        margin=0.0,
        resample="bicubic",
        mean=(0.423737496137619, 0.2609460651874542, 0.128403902053833),
        std=(0.29482534527778625, 0.20167365670204163, 0.13668020069599152),
    ),
    card=ModelCard(
        licence="research use: see the repository",
        training_data="3.4 million ophthalmic pictures, an encoder for each of eight modalities",
        pooling="class tokens of the last four blocks after the final norm, side by side",
        citation="Qiu et al., Development and validation of a multimodal multitask vision foundation model "
        "for generalist ophthalmic artificial intelligence, NEJM AI 2024, doi 10.1056/AIoa2300221",
    ),
    source="VFM_Fundus_weights.pth of https://github.com/ABILab-CUHK/VisionFM",
    unwrap=("teacher", "visionfm_state_dict"),
    leave=("head.", "masked_embed"),
    rename=peer_keys.without_wrappers,
    pooling="last class tokens",
)
_MIRAGE = Peer(
    name="mirage",
    backbone="vit_base_patch32_224",
    arguments={"img_size": 512, "global_pool": "avg", "fc_norm": False, "no_embed_class": True},
    transform=Transform(size=512, margin=0.0, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)),
    card=ModelCard(
        licence="CC-BY-NC-4.0",
        training_data="paired OCT B-scans and scanning laser photographs with layers (Morano et al. 2025)",
        pooling="mean of the patch tokens after a norm without training, the photograph's adapter",
        citation="Morano et al., MIRAGE: a multimodal foundation model and benchmark for comprehensive "
        "retinal OCT image analysis, 2025",
    ),
    source="MIRAGE-Base.pth of https://github.com/j-morano/MIRAGE",
    unwrap=("model",),
    rename=peer_keys.mirage("slo"),
)
_FLAIR = Peer(
    name="flair",
    backbone="resnet50",
    arguments={},
    transform=Transform(
        size=512,
        crop="frame",
        margin=0.0,
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
        mask_outside=False,
    ),
    card=ModelCard(
        licence="Apache-2.0",
        training_data="284 660 colour fundus photographs of 37 public sets with text (FLAIR 2024)",
        pooling="average of the last map, before the projection to text",
        citation="Silva-Rodríguez et al., A Foundation Language-Image Model of the Retina (FLAIR), "
        "Medical Image Analysis 2025, doi 10.1016/j.media.2024.103357",
    ),
    source="flair_resnet.pth of https://github.com/jusiro/FLAIR",
    prefix="vision_model.model.",
    leave=("text_model.", "vision_model.projection_head_vision.", "logit_scale"),
)


def _of_oct(peer: Peer, source: str, training_data: str, **changes: Any) -> Peer:
    """The same network trained on OCT: the whole frame is seen, since a B-scan has no lit disc."""
    return replace(
        peer,
        name=f"{peer.name}-oct",
        transform=replace(peer.transform, crop="frame", mask_outside=False, **changes.pop("transform", {})),
        card=peer.card.model_copy(update={"training_data": training_data}),
        source=source,
        **changes,
    )


def _read_otherwise(peer: Peer, reading: str, told: str, **changes: Any) -> Peer:
    """The same checkpoint, pooled in another way that is in use."""
    return replace(
        peer, name=f"{peer.name}-{reading}", card=peer.card.model_copy(update={"pooling": told}), **changes
    )


PEERS = {
    peer.name: peer
    for peer in (
        _RETFOUND,
        _read_otherwise(
            _RETFOUND,
            "untrained-norm",
            "mean of the patch tokens, then a norm without training, as in the repository's notebook",
            arguments={"global_pool": "avg"},
            rename=peer_keys.untrained_norm,
        ),
        _of_oct(
            _RETFOUND,
            "RETFound_mae_natureOCT.pth, on request from its authors at https://github.com/rmaphoh/RETFound",
            "736 442 OCT scans, mostly MEH-MIDAS (Zhou et al. 2023)",
        ),
        replace(
            _RETFOUND,
            name="retfound-dinov2",
            backbone="vit_large_patch14_dinov2",
            arguments={"img_size": 224},
            card=_RETFOUND.card.model_copy(
                update={
                    "training_data": "colour fundus photographs of Moorfields or Shanghai, "
                    "DINOv2's objective",
                    "pooling": "class token after the final norm",
                }
            ),
            source="RETFound_dinov2_meh.pth, on request from its authors at "
            "https://github.com/rmaphoh/RETFound",
            unwrap=("teacher",),
            prefix="backbone.",
            leave=("dino_head.", "ibot_head.", "backbone.mask_token"),
            rename=peer_keys.without_chunks,
        ),
        _RETFOUND_GREEN,
        _read_otherwise(
            _RETFOUND_GREEN,
            "class-token",
            "class token after the final norm",
            arguments={"img_size": 392},
        ),
        _read_otherwise(
            _RETFOUND_GREEN,
            "all-tokens",
            "mean of all tokens after the final norm, as in the repository's notebooks",
            arguments={"img_size": 392},
            pooling="all tokens",
        ),
        _FLAIR,
        _VISIONFM,
        _of_oct(
            _VISIONFM,
            "VFM_OCT_weights.pth of https://github.com/ABILab-CUHK/VisionFM",
            "OCT scans among 3.4 million ophthalmic pictures (Qiu et al. 2024)",
            transform={
                "mean": (0.21091926, 0.21091926, 0.21091919),
                "std": (0.17598894, 0.17598891, 0.17598893),
            },
        ),
        _MIRAGE,
        _of_oct(_MIRAGE, _MIRAGE.source, _MIRAGE.card.training_data, rename=peer_keys.mirage("bscan")),
    )
}
