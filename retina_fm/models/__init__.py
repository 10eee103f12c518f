"""The registry: names of models, where their weights lie, and how they are verified and loaded."""

from retina_fm.models.backbones import BackboneEncoder
from retina_fm.models.contract import Model, ModelCard, RetinalEncoder, by_name
from retina_fm.models.folder import WeightsConfig, read_config, save_folder
from retina_fm.models.fundus2video import Fundus2VideoEncoder
from retina_fm.models.registry import ModelSummary, list_models, load, load_generator, resolve
from retina_fm.models.sharing import push, save_encoder
from retina_fm.models.signing import read_signature_basis, save_signature_basis
from retina_fm.models.whitening import (
    Whitening,
    fit_whitening,
    fit_within_persons,
    read_whitening,
    save_whitening,
)

__all__ = [
    "BackboneEncoder",
    "Fundus2VideoEncoder",
    "Model",
    "ModelCard",
    "ModelSummary",
    "RetinalEncoder",
    "WeightsConfig",
    "Whitening",
    "by_name",
    "fit_whitening",
    "fit_within_persons",
    "list_models",
    "load",
    "load_generator",
    "push",
    "read_config",
    "read_signature_basis",
    "read_whitening",
    "resolve",
    "save_encoder",
    "save_folder",
    "save_signature_basis",
    "save_whitening",
]
