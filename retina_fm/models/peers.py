"""Peers whose weights are published as pickles under their own licences: how each is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from retina_fm.models.card import ModelCard
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
        unwrap: key under which the checkpoint keeps its tensors, or None for a plain state.
        prefix: of the tensors that belong to the backbone; only these are read.
        leave: prefixes of tensors that belong to something else (a decoder, a text tower).
    """

    name: str
    backbone: str
    arguments: Mapping[str, Any]
    transform: Transform
    card: ModelCard
    source: str
    unwrap: str | None = None
    prefix: str = ""
    leave: tuple[str, ...] = field(default=())


PEERS = {
    peer.name: peer
    for peer in (
        # Upstream fine-tunes with an `fc_norm` that the checkpoint does not hold; frozen features through
        # it would pass an untrained layer. The checkpoint's own `norm` was trained, so it is used.
        Peer(
            name="retfound",
            backbone="vit_large_patch16_224",
            arguments={"global_pool": "avg", "fc_norm": False},
            # Upstream crops to the retina, resizes to 256 and takes the central 224.
            transform=Transform(
                size=224,
                margin=224 / 256 - 1,
                resample="bicubic",
                mean=_IMAGENET_MEAN,
                std=_IMAGENET_STD,
            ),
            card=ModelCard(
                licence="CC-BY-NC-4.0",
                training_data="904 170 colour fundus photographs, mostly MEH-MIDAS (Zhou et al. 2023)",
                pooling="mean of the patch tokens after the checkpoint's own final norm",
                citation="Zhou et al., A foundation model for generalizable disease detection from retinal "
                "images, Nature 2023, doi 10.1038/s41586-023-06555-x",
            ),
            source="RETFound_mae_natureCFP.pth, on request from its authors at "
            "https://github.com/rmaphoh/RETFound",
            unwrap="model",
            leave=("decoder_", "mask_token"),
        ),
        Peer(
            name="retfound-green",
            backbone="vit_small_patch14_reg4_dinov2",
            arguments={"img_size": 392},
            transform=Transform(size=392, margin=0.0, resample="bicubic"),
            card=ModelCard(
                licence="non-commercial: see the repository",
                training_data="75 000 colour fundus photographs (Engelmann and Bernabeu 2024)",
                pooling="class token after the final norm",
                citation="Engelmann and Bernabeu, Training a high-performance retinal foundation model with "
                "half-the-data and 400 times less compute, arXiv 2405.00117",
            ),
            source="retfoundgreen_statedict.pth of https://github.com/justinengelmann/RETFound_Green",
        ),
        Peer(
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
        ),
    )
}
