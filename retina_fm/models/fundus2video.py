"""Encoders and generators of the project's own kind, built from a weights folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from retina_fm.errors import ConfigError
from retina_fm.models.contract import Described, ModelCard
from retina_fm.models.folder import WeightsConfig, check_parameters, check_tensors, class_count, read_tensors
from retina_fm.models.sharing import save_encoder
from retina_fm.models.signing import Signing
from retina_fm.models.timm_settings import pretrained_cfg
from retina_fm.models.tracked import Tracked
from retina_fm.models.whitening import Whitening
from retina_fm.network import STRIDES, Architecture, Encoder, Generator, encoder_state, initialise
from retina_fm.pictures import Transform
from retina_fm.signatures import default_basis

KIND = "fundus2video"
ENCODER_KIND = "fundus2video-encoder"
"""A folder with the encoder's own tensors, without a generator: one that was fine-tuned."""


class Fundus2VideoEncoder(Described, Tracked, Signing, Encoder):
    """The network's encoder together with its transform, card and hash.

    Attributes:
        reliability: how far its maps can be believed, by name, as far as its folder states it.
        whitening: for retrieval, shipped beside the weights; no part of the embedding.
    """

    whitening: Whitening | None = None

    def __init__(self, config: WeightsConfig) -> None:
        network = config.network["architecture"] if config.kind == ENCODER_KIND else config.network
        super().__init__(Architecture.model_validate(network))
        self.name: str = config.name
        self.transform: Transform = config.transform
        self.card: ModelCard = config.card
        self.weights_sha256 = config.sha256
        self.signature_basis = default_basis()
        self.reliability = config.reliability

    def save_pretrained(self, folder: str | Path, **about: Any) -> WeightsConfig:
        """Write the encoder as it is now, classifier included, as a weights folder with a card.

        Args:
            folder: to write; :func:`retina_fm.load` reads it.
            about: ``name``, ``licence`` and ``training_data``, see :func:`retina_fm.models.save_encoder`.
        """
        network = {"architecture": self.architecture.model_dump(mode="json"), "num_classes": self.num_classes}
        return save_encoder(folder, self, ENCODER_KIND, network, self.state_dict(), **about)

    @property
    def pretrained_cfg(self) -> dict[str, Any]:
        """What timm's data tools and training scripts read off a model."""
        return pretrained_cfg(
            self.transform,
            self.card,
            architecture=self.name,
            stride=STRIDES[-1],
            first_conv="model.1",
            classifier="head",
        )

    @property
    def default_cfg(self) -> dict[str, Any]:
        """The same under timm's older name."""
        return self.pretrained_cfg


def build_encoder(folder: Path, config: WeightsConfig) -> Fundus2VideoEncoder:
    """The encoder of a verified folder; its generator, where the folder holds one, is left aside.

    Raises:
        WeightsError: tensors are missing, superfluous, of another shape or not finite.
    """
    with torch.device("meta"):
        shape = Fundus2VideoEncoder(config)
    pooling = {f"pooling.{key}": value for key, value in shape.pooling.state_dict().items()}
    if config.seed is not None:
        check_parameters(shape, str(folder))
        tensors = read_tensors(folder, config, pooling)
        encoder = Fundus2VideoEncoder(config)
        initialise(encoder, config.seed)
        seeded = encoder.state_dict()
        pooling = {key: seeded[key] for key in ("pooling.offset", "pooling.scale")}
        check_tensors(tensors, pooling if tensors else {}, str(folder))
        encoder.load_state_dict({**seeded, **tensors}, strict=True)
        return encoder.eval()
    expected = {**_generator_keys(shape.architecture), **pooling}
    tensors = read_tensors(folder, config, expected)
    check_tensors(tensors, expected, str(folder))
    pooled = {key: value.float() for key, value in tensors.items() if key.startswith("pooling.")}
    rest = {key: value for key, value in tensors.items() if key not in pooled}
    encoder = Fundus2VideoEncoder(config)  # only now: what a file asks for is what it holds
    encoder.load_state_dict({**encoder_state(rest, encoder.architecture), **pooled}, strict=True)
    return encoder.eval()


def build_encoder_alone(folder: Path, config: WeightsConfig) -> Fundus2VideoEncoder:
    """The encoder of a verified folder that holds nothing else.

    Raises:
        ConfigError: the folder does not say what is built.
        WeightsError: tensors are missing, superfluous, of another shape or not finite.
    """
    if not isinstance(config.network.get("architecture"), dict):
        raise ConfigError(f"{folder}: 'network' has no architecture; save the encoder again.")
    classes = class_count(config)
    with torch.device("meta"):
        shape = Fundus2VideoEncoder(config)
        shape.reset_classifier(classes)
    expected = dict(shape.state_dict())
    tensors = read_tensors(folder, config, expected)
    check_tensors(tensors, expected, str(folder))
    encoder = Fundus2VideoEncoder(config)
    encoder.reset_classifier(classes)
    encoder.load_state_dict(tensors, strict=True)
    return encoder.eval()


def build_generator(folder: Path, config: WeightsConfig) -> Generator:
    """The generator of a verified folder.

    Raises:
        ConfigError: the folder holds a random encoder, which has no generator.
        WeightsError: tensors are missing, superfluous, of another shape or not finite.
    """
    if config.seed is not None:
        raise ConfigError(
            f"{config.name} is a random encoder without a generator; "
            "load trained weights to generate angiograms."
        )
    architecture = Architecture.model_validate(config.network)
    expected = _generator_keys(architecture)
    with torch.device("meta"):
        pooling = Encoder(architecture).pooling.state_dict()
    wanted = {**expected, **{f"pooling.{key}": value for key, value in pooling.items()}}
    found = read_tensors(folder, config, wanted)
    tensors = {key: value for key, value in found.items() if not key.startswith("pooling.")}
    check_tensors(tensors, expected, str(folder))
    # the lesion decoder is the encoder's business: a generator has one anyway
    generator = Generator(architecture.model_copy(update={"lesion_decoder": False}))
    generator.load_state_dict(tensors, strict=True)
    return generator.eval()


def _generator_keys(architecture: Architecture) -> dict[str, Tensor]:
    with torch.device("meta"):
        return dict(Generator(architecture).state_dict())
