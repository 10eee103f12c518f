"""Peers' encoders and any timm model behind the same contract."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from retina_fm._vision import import_vision
from retina_fm.errors import ConfigError, UnknownModelError, ViewError, WeightsNotFoundError
from retina_fm.models.contract import Described, ModelCard
from retina_fm.models.folder import MOST_CLASSES, WeightsConfig, check_tensors, class_count, read_tensors
from retina_fm.models.places import Remembered, hub_answers, only_remembered
from retina_fm.models.sharing import save_encoder
from retina_fm.models.timm_settings import pretrained_cfg
from retina_fm.models.tracked import Tracked
from retina_fm.models.whitening import Whitening
from retina_fm.network.feature_map import FeatureMap
from retina_fm.network.features import FeatureInfo, Features
from retina_fm.network.views import as_batch, check_view, warn_of_levels
from retina_fm.pictures import Transform

KIND = "timm"
_NAME = re.compile(r"[A-Za-z0-9_]+(\.[A-Za-z0-9_-]+)?")
_MOST_SIDE = 4096


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool)


def _is_count(value: Any, least: int = 0, most: int = 64) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _are_counts(value: Any, most: int) -> bool:
    return isinstance(value, list | tuple) and len(value) <= 8 and all(_is_count(n, 1, most) for n in value)


def _is_side(value: Any) -> bool:
    sides = value if isinstance(value, list | tuple) else [value]
    return len(sides) in (1, 2) and all(_is_count(side, 1, _MOST_SIDE) for side in sides)


ARGUMENTS: dict[str, Callable[[Any], bool]] = {
    "img_size": _is_side,
    "patch_size": _is_side,
    "embed_dim": lambda value: _is_count(value, 1, 8192),
    "depth": lambda value: _is_count(value, 1, 128),
    "num_heads": lambda value: _is_count(value, 1, 128),
    "mlp_ratio": lambda value: isinstance(value, float | int) and 0 < value <= 16,
    "depths": lambda value: _are_counts(value, 128),
    "dims": lambda value: _are_counts(value, 8192),
    "global_pool": lambda value: isinstance(value, str) and value.isalpha() and len(value) < 20,
    "num_classes": lambda value: _is_count(value, 0, MOST_CLASSES),
    "fc_norm": _is_flag,
    "class_token": _is_flag,
    "reg_tokens": _is_count,
    "no_embed_class": _is_flag,
    "dynamic_img_size": _is_flag,
    "dynamic_img_pad": _is_flag,
    "pos_embed": lambda value: value in ("learn", "none"),
    "init_values": lambda value: isinstance(value, float | int) and 0 <= value <= 1,
    "qk_norm": _is_flag,
    "pre_norm": _is_flag,
    "final_norm": _is_flag,
    "output_stride": lambda value: value in (8, 16, 32),
}
"""What a weights folder may ask of ``timm.create_model``, and which values: shapes, and nothing else."""
BACKBONE, ALL_TOKENS, LAST_CLASS_TOKENS = "backbone", "all tokens", "last class tokens"
POOLINGS = (BACKBONE, ALL_TOKENS, LAST_CLASS_TOKENS)
CLASS_TOKENS = 4
"""Blocks whose class tokens the last pooling joins."""


class BackboneEncoder(Described, Tracked, nn.Module):
    """A timm backbone with a transform, a card and one named pooling.

    timm's own methods (``forward_intermediates``, ``group_matcher`` and so on) are the backbone's; the
    classifier is over the embedding.

    Attributes:
        backbone: the timm model, without classifier.
        head: classifier over the embedding, an identity without classes.
        pooling: ``"backbone"`` (timm's own), ``"all tokens"`` (their mean, class token and registers too)
            or ``"last class tokens"`` (of the last four blocks, side by side).
        whitening: for retrieval, where the weights folder has one; no part of the embedding.
    """

    backbone: Any
    whitening: Whitening | None = None
    levels_seen = False

    def __init__(self, backbone: Any, config: WeightsConfig) -> None:
        super().__init__()
        self.backbone = backbone
        self.name: str = config.name
        self.transform: Transform = config.transform
        self.card: ModelCard = config.card
        self.weights_sha256 = config.sha256
        self.network = dict(config.network)
        self.pooling = str(config.network.get("pooling", BACKBONE))
        if self.pooling not in POOLINGS:
            raise ConfigError(f"pooling is {self.pooling!r}; this release knows {', '.join(POOLINGS)}.")
        repeats = CLASS_TOKENS if self.pooling == LAST_CLASS_TOKENS else 1
        self.num_features = int(backbone.num_features) * repeats
        self.head: nn.Module = nn.Identity()
        self.num_classes = 0
        info = backbone.feature_info
        self.feature_info = FeatureInfo(
            [int(entry["num_chs"]) for entry in info],
            [int(entry["reduction"]) for entry in info],
            [f"backbone.{entry['module']}" for entry in info],
        )

    @property
    def dtype(self) -> torch.dtype:
        """Number type that the backbone computes in."""
        return next(self.backbone.parameters()).dtype  # type: ignore[no-any-return]

    def forward(self, view: Tensor) -> Features:
        """Views ``(N, 3, S, S)`` to pooled embeddings, the backbone's maps, and no lesions.

        Raises:
            ViewError: the view has a wrong rank or type.
        """
        view = self._checked(view)
        if self.pooling == LAST_CLASS_TOKENS:
            last, pairs = self.backbone.forward_intermediates(
                view.to(self.dtype), output_fmt="NCHW", return_prefix_tokens=True
            )
            return Features(self._class_tokens(pairs), tuple(pair[0] for pair in pairs), None)
        last, maps = self.backbone.forward_intermediates(view.to(self.dtype), output_fmt="NCHW")
        return Features(self._pooled(last), tuple(maps), None)

    def features(self, view: Tensor) -> Features:
        """The same as calling the encoder."""
        features: Features = self(view)
        return features

    def embed(self, view: Tensor) -> Tensor:
        """Embeddings ``(N, D)`` alone, float32."""
        view = self._checked(view)
        if self.pooling == LAST_CLASS_TOKENS:
            pairs = self.backbone.forward_intermediates(
                view.to(self.dtype), CLASS_TOKENS, intermediates_only=True, return_prefix_tokens=True
            )
            return self._class_tokens(pairs)
        return self._pooled(self.backbone.forward_features(view.to(self.dtype)))

    def _checked(self, view: Tensor) -> Tensor:
        """A batch of views; a single one is a batch of one."""
        view = as_batch(view)
        check_view(view)
        if not torch.compiler.is_compiling() and not self.levels_seen:
            self.levels_seen = warn_of_levels(view)
        return view

    def _pooled(self, last: Tensor) -> Tensor:
        if self.pooling == ALL_TOKENS:
            return last.mean(1).float()
        pooled: Tensor = self.backbone.forward_head(last, pre_logits=True)
        return pooled.float()

    def _class_tokens(self, pairs: Any) -> Tensor:
        tokens = [self.backbone.norm(pair[1][:, :1])[:, 0] for pair in pairs[-CLASS_TOKENS:]]
        return torch.cat(tokens, dim=-1).float()

    def save_pretrained(self, folder: str | Path, **about: Any) -> WeightsConfig:
        """Write the encoder as it is now, classifier included, as a weights folder with a card.

        Args:
            folder: to write; :func:`retina_fm.load` reads it.
            about: ``name``, ``licence`` and ``training_data``, see :func:`retina_fm.models.save_encoder`.
        """
        network = {**self.network, "num_classes": self.num_classes}
        head = {f"head.{key}": value for key, value in self.head.state_dict().items()}
        tensors = {**self.backbone.state_dict(), **head}
        return save_encoder(folder, self, KIND, network, tensors, **about)

    @property
    def head_hidden_size(self) -> int:
        """Length of what a classifier takes, an embedding."""
        return self.num_features

    @property
    def pretrained_cfg(self) -> dict[str, Any]:
        """What timm's data tools read off a model: the transform stated here, not the backbone's own."""
        theirs = self.backbone.pretrained_cfg
        return pretrained_cfg(
            self.transform,
            self.card,
            architecture=self.name,
            stride=None,
            first_conv=f"backbone.{theirs['first_conv']}",
            classifier="head",
            fixed_size=bool(theirs.get("fixed_input_size", False)),
        )

    @property
    def default_cfg(self) -> dict[str, Any]:
        """The same under timm's older name."""
        return self.pretrained_cfg

    def forward_features(self, view: Tensor) -> Tensor:
        """First step of timm's forward: the backbone's last map or tokens, which carry the embeddings."""
        view = self._checked(view)
        last: Tensor = self.backbone.forward_features(view.to(self.dtype))
        if self.pooling == LAST_CLASS_TOKENS:
            return FeatureMap.carrying(last, self.embed(view))
        return FeatureMap.carrying(last, self._pooled(last))

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Second step: logits, or embeddings ``(N, D)`` without a classifier or with ``pre_logits``."""
        pooled = getattr(x, "pooled", None)
        if pooled is None and self.pooling == LAST_CLASS_TOKENS:
            raise ViewError("The last tokens alone do not give this embedding; call embed(view).")
        pooled = self._pooled(x) if pooled is None else pooled
        logits: Tensor = pooled if pre_logits else self.head(pooled)
        return logits

    def forward_intermediates(self, x: Tensor, indices: Any = None, **settings: Any) -> Any:
        """The backbone's maps that were asked for; see timm's method of that name."""
        x = self._checked(x)
        return self.backbone.forward_intermediates(x.to(self.dtype), indices=indices, **settings)

    def prune_intermediate_layers(self, indices: Any = 1, **settings: Any) -> list[int]:
        """Take away what the maps asked for do not need."""
        kept: list[int] = self.backbone.prune_intermediate_layers(indices, **settings)
        return kept

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Trade time for memory in training."""
        self.backbone.set_grad_checkpointing(enable)

    def get_classifier(self, name_only: bool = False) -> nn.Module | str:
        """The classifier over the embedding, or the name of its module."""
        return "head" if name_only else self.head

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """A new classifier over the embedding; 0 classes take it away, ``global_pool`` is the backbone's."""
        if global_pool is not None:
            self.backbone.reset_classifier(0, global_pool)
        self.head = nn.Identity()
        if num_classes:
            place = next(self.backbone.parameters()).device
            self.head = nn.Linear(self.head_hidden_size, num_classes, device=place)
        self.num_classes = num_classes

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """The backbone's patterns of parameter names, for timm's layer-wise learning rates."""
        below = self.backbone.group_matcher(coarse)
        return {key: _below(pattern) for key, pattern in below.items()}


def _below(pattern: Any) -> Any:
    """Patterns of a module's parameter names, for the module that holds it as ``backbone``."""
    if isinstance(pattern, str):
        return "|".join(rf"^backbone\.{part.lstrip('^')}" for part in pattern.split("|"))
    return [(_below(one), *rest) for one, *rest in pattern]


def build_backbone(folder: Path, config: WeightsConfig) -> BackboneEncoder:
    """A backbone from a verified weights folder; every tensor must match.

    Raises:
        ConfigError: the folder names a backbone that the installed timm does not know.
        WeightsError: tensors are missing, superfluous, of another shape or not finite.
    """
    classes = class_count(config)
    with torch.device("meta"):
        shape = BackboneEncoder(create_backbone(dict(config.network)), config)
        if classes:
            shape.reset_classifier(classes)
    expected = dict(shape.backbone.state_dict())
    expected.update({f"head.{key}": value for key, value in shape.head.state_dict().items()})
    tensors = read_tensors(folder, config, expected)
    check_tensors(tensors, expected, str(folder))
    encoder = BackboneEncoder(create_backbone(dict(config.network)), config)
    if classes:
        encoder.reset_classifier(classes)
    mine = [f"head.{key}" for key in encoder.head.state_dict()]  # the backbone itself has no classifier
    head = {key.removeprefix("head."): tensors.pop(key) for key in mine}
    encoder.head.load_state_dict(head, strict=True)
    encoder.backbone.load_state_dict(tensors, strict=True)
    return encoder.eval()


def create_backbone(network: dict[str, Any]) -> nn.Module:
    """The bare timm model that a configuration's ``network`` names, without weights.

    Raises:
        ConfigError: the installed timm does not know it, or an argument is none of :data:`ARGUMENTS`, which
            is all that a file may say: others name files to read, or places to fetch from.
    """
    timm = import_vision("timm")
    name, arguments = network.get("backbone"), network.get("arguments", {})
    # a prefix would fetch, or read another folder
    if not isinstance(name, str) or not _NAME.fullmatch(name) or not timm.is_model(name):
        raise ConfigError(f"timm {timm.__version__} has no model {name!r:.80}; a plain name of it is needed.")
    if not isinstance(arguments, Mapping):
        raise ConfigError(f"network.arguments is {arguments!r:.80}; it must be a table.")
    for key, value in arguments.items():
        if key not in ARGUMENTS:
            raise ConfigError(
                f"network.arguments has {key!r:.80}, which no weights folder may ask of timm. "
                f"Known: {', '.join(sorted(ARGUMENTS))}."
            )
        if not ARGUMENTS[key](value):
            raise ConfigError(f"network.arguments.{key} is {value!r:.80}, which cannot be.")
    try:
        backbone: nn.Module = timm.create_model(name, pretrained=False, **{"num_classes": 0, **arguments})
    except (KeyError, TypeError, ValueError, AssertionError, RuntimeError) as error:
        raise ConfigError(f"timm {timm.__version__} cannot build {network!r}: {error}.") from error
    return backbone


def fetch_from_timm(name: str) -> BackboneEncoder:
    """``timm/NAME`` with the weights that timm publishes for it; the user asked for the network.

    A name that only a file said (:class:`~retina_fm.models.places.Remembered`) is taken from the hub's cache.

    Raises:
        UnknownModelError: timm has no such model.
        WeightsNotFoundError: it has no published weights, or they cannot be fetched.
    """
    timm = import_vision("timm")
    short = name.removeprefix("timm/")
    if not timm.is_model(short):
        near = timm.list_models(f"*{short.split('_')[0]}*")[:3]
        raise UnknownModelError(
            f"timm {timm.__version__} has no model {short!r}. Near it: {', '.join(near)}."
        )
    if not timm.models.is_model_pretrained(short):
        raise WeightsNotFoundError(f"timm publishes no weights for {short!r}; pass weights=FOLDER.")
    overlay = _cached(short, timm)
    if overlay is None and isinstance(name, Remembered):
        raise WeightsNotFoundError(only_remembered(name))
    if overlay is None and timm.get_pretrained_cfg(short).hf_hub_id and not hub_answers():
        raise WeightsNotFoundError(
            f"The weights of {name!r} are not in the hub's cache, and the hub does not answer from here. "
            "Check the connection; or run this once where there is one and carry the cache along ($HF_HOME)."
        )
    try:
        backbone = timm.create_model(
            short, pretrained=True, num_classes=0, **({"pretrained_cfg_overlay": overlay} if overlay else {})
        )
    except Exception as error:  # the hub client raises many kinds, all of which mean "not to be had now"
        raise WeightsNotFoundError(
            f"The weights of {name!r} could not be fetched ({type(error).__name__}: {error}). "
            "Check the connection and HF_HUB_OFFLINE, or pass weights=FOLDER."
        ) from error
    settings = backbone.pretrained_cfg
    config = WeightsConfig(
        name=name,
        kind=KIND,
        transform=transform_of(backbone),
        card=ModelCard(
            licence=str(settings.get("license") or "unknown: see the model's page"),
            training_data=f"as published by timm for {short}",
            pooling=f"timm's default ({getattr(backbone, 'global_pool', 'pooled head')})",
            citation=str(settings.get("paper_name") or ""),
        ),
        network={"backbone": short, "arguments": {}, "published": str(settings.get("hf_hub_id") or "")},
    )
    return BackboneEncoder(backbone, config).eval()


def _cached(short: str, timm: Any) -> dict[str, str] | None:
    """Where the hub's cache holds the safetensors file of a timm model, as timm takes it; None: nowhere."""
    from huggingface_hub import try_to_load_from_cache

    published = timm.get_pretrained_cfg(short)
    repository = str(getattr(published, "hf_hub_id", None) or "")
    found = try_to_load_from_cache(repository, "model.safetensors") if "/" in repository else None
    return {"file": found} if isinstance(found, str) else None


def transform_of(backbone: nn.Module) -> Transform:
    """A transform with the size, crop, interpolation and normalisation that timm states for a model."""
    timm = import_vision("timm")
    settings = timm.data.resolve_model_data_config(backbone)
    # timm resizes to more than the size and cuts the rest off all sides; here the crop does both at once
    cut = float(settings["crop_pct"]) - 1 if settings["crop_mode"] == "center" else 0.0
    return Transform(
        size=int(settings["input_size"][-1]),
        margin=cut,
        resample="bicubic" if settings["interpolation"] == "bicubic" else "bilinear",
        mean=tuple(settings["mean"]),
        std=tuple(settings["std"]),
    )
