"""Every registered model for ``timm.create_model``, once this module is imported.

    import timm
    import retina_fm.models.timm_models

    model = timm.create_model("fundus2video", pretrained=True, num_classes=5)

Names are the registry's own. Earlier releases of timm also take ``retina_fm/fundus2video``; 1.0.31 refuses
any name with a slash before it looks it up. Weights come from where ``retina_fm.load`` finds them. Where pip
paired torch with a torchvision that does not load, import this module before timm.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from retina_fm._vision import import_vision
from retina_fm.errors import ConfigError, WeightsNotFoundError
from retina_fm.models import registry
from retina_fm.models.contract import ModelCard
from retina_fm.models.folder import WeightsConfig, read_config
from retina_fm.models.fundus2video import KIND, Fundus2VideoEncoder
from retina_fm.models.peers import PEERS, Peer
from retina_fm.models.timm_settings import pretrained_cfg
from retina_fm.network import STRIDES, Architecture, FeatureInfo, Features, initialise
from retina_fm.pictures import Transform

import_vision("timm")

import timm.models  # noqa: E402  only import_vision knows how
from timm.models._features import FeatureGetterNet, FeatureHookNet  # noqa: E402

_LOADING_ONLY = ("cache_dir", "pretrained_model_args", "pretrained_cfg")


class TimmEncoder(nn.Module):
    """An encoder as timm's models are: called, it gives one tensor.

    The encoder itself gives :class:`Features`; this gives logits ``(N, K)``, embeddings ``(N, D)`` without
    classes, or the last map with ``global_pool=""``. As in timm, ``num_features`` is the last map's channels
    and ``head_hidden_size`` the embedding's length.

    Attributes:
        encoder: the model itself, with transform and card.
        pretrained_cfg: what timm's tools read.
        drop_rate: dropout before the classifier, in training.
    """

    def __init__(
        self,
        encoder: Fundus2VideoEncoder,
        *,
        num_classes: int = 0,
        global_pool: str = "fitted",
        in_chans: int = 3,
        drop_rate: float = 0.0,
    ) -> None:
        super().__init__()
        if in_chans not in (1, 3):
            raise ConfigError(
                f"in_chans is {in_chans}; a photo has 3 channels, or 1 that stands for all three."
            )
        self.encoder = encoder
        self.in_chans, self.drop_rate = in_chans, drop_rate
        self.feature_info = FeatureInfo(
            encoder.feature_info.channels(),
            encoder.feature_info.reduction(),
            [f"encoder.{name}" for name in encoder.feature_info.module_name()],
        )
        self.pretrained_cfg = _settings(encoder.name, encoder.transform, encoder.card)
        self.default_cfg = self.pretrained_cfg
        self.reset_classifier(num_classes, global_pool)

    @property
    def num_classes(self) -> int:
        """Classes that the head tells apart, 0 without a classifier."""
        return self.encoder.num_classes

    @property
    def num_features(self) -> int:
        """Channels of what :meth:`forward_features` gives."""
        return int(self.feature_info.channels(self.encoder._levels - 1))

    @property
    def head_hidden_size(self) -> int:
        """Length of what :meth:`forward_head` gives before the classifier."""
        return self.num_features if self.encoder.global_pool == "" else self.encoder.head_hidden_size

    @property
    def global_pool(self) -> str:
        """``"fitted"``, or ``""`` where maps are passed on."""
        return self.encoder.global_pool

    def forward(self, x: Tensor) -> Tensor:
        """Views ``(N, 3, H, W)`` (``(N, 1, H, W)`` with one input channel) to logits, embeddings or maps."""
        if self.encoder.pruned:
            return self.forward_features(x)
        found = self.encoder(self._colour(x))
        return found.maps[-1] if self.encoder.global_pool == "" else self._classified(found.pooled)

    def forward_features(self, x: Tensor) -> Tensor:
        """The last map, which carries the embeddings for :meth:`forward_head`."""
        return self.encoder.forward_features(self._colour(x))

    def forward_head(self, x: Tensor | Features, pre_logits: bool = False) -> Tensor:
        """Logits or embeddings of what :meth:`forward_features` gave."""
        pooled = self.encoder.forward_head(x, pre_logits=True)
        return pooled if pre_logits or self.encoder.global_pool == "" else self._classified(pooled)

    def forward_intermediates(self, x: Tensor, indices: Any = None, **settings: Any) -> Any:
        """Maps; see the encoder's method."""
        return self.encoder.forward_intermediates(self._colour(x), indices, **settings)

    def prune_intermediate_layers(self, indices: Any = 1, **settings: Any) -> list[int]:
        """Take away what the maps asked for do not need; see the encoder's method."""
        return self.encoder.prune_intermediate_layers(indices, **settings)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Trade time for memory in training."""
        self.encoder.set_grad_checkpointing(enable)

    def get_classifier(self, name_only: bool = False) -> nn.Module | str:
        """The classifier, or the name of its module."""
        return "encoder.head" if name_only else self.encoder.head

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """A new classifier over the embedding; 0 classes take it away."""
        self.encoder.reset_classifier(num_classes, global_pool)

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Patterns of parameter names for layer-wise learning rates."""
        below = self.encoder.group_matcher(coarse)
        return {key: _below(pattern) for key, pattern in below.items()}

    def no_weight_decay(self) -> set[str]:
        """No parameter asks to be left out."""
        return set()

    def _colour(self, x: Tensor) -> Tensor:
        if self.in_chans == 1:
            return x.expand(-1, 3, -1, -1)
        return x

    def _classified(self, pooled: Tensor) -> Tensor:
        if self.drop_rate:
            pooled = F.dropout(pooled, self.drop_rate, self.training)
        logits: Tensor = self.encoder.head(pooled)
        return logits


timm.models.register_notrace_module(Fundus2VideoEncoder)


def create(name: str, pretrained: bool = False, **settings: Any) -> nn.Module:
    """The model that ``timm.create_model(name)`` gives.

    Args:
        name: of the registry.
        pretrained: the released weights; without, random ones from torch's generator.
        settings: timm's: ``num_classes``, ``global_pool``, ``in_chans``, ``drop_rate``, ``features_only``,
            ``out_indices``, ``feature_cls`` (``"getter"`` or ``"hook"``), ``pretrained_cfg_overlay``. Peers
            take whatever their backbone takes.

    Raises:
        ConfigError: a setting that this model does not have.
        WeightsNotFoundError: pretrained weights are in none of the places.
    """
    overlay = settings.pop("pretrained_cfg_overlay", None) or {}
    for key in _LOADING_ONLY:
        settings.pop(key, None)
    if name in PEERS:
        return _create_peer(PEERS[name], pretrained, overlay, settings)
    features_only = settings.pop("features_only", False)
    extraction: dict[str, Any] = {
        key: settings.pop(key) for key in ("out_indices", "feature_cls") if key in settings
    }
    encoder = registry.load(name) if pretrained else _untrained(name)
    if not isinstance(encoder, Fundus2VideoEncoder):
        raise ConfigError(
            f"{name!r} holds a {type(encoder).__name__}; its weights folder is another model's."
        )
    try:
        model = TimmEncoder(encoder, **settings)
    except TypeError as error:
        raise ConfigError(f"{name!r} has no such setting: {error}.") from None
    model.pretrained_cfg.update(overlay)
    return _extractor(model, extraction) if features_only else model


def _extractor(model: TimmEncoder, settings: dict[str, Any]) -> nn.Module:
    kind = settings.pop("feature_cls", "getter")
    kinds = {"getter": FeatureGetterNet, "hook": FeatureHookNet}
    if kind not in kinds:
        raise ConfigError(f"feature_cls is {kind!r}; this model's maps are had by 'getter' or 'hook'.")
    indices = settings.get("out_indices", tuple(range(len(STRIDES))))
    if kind == "hook":  # before the hooks: they would keep what the pruning takes away
        model.encoder.prune_intermediate_layers(len(STRIDES))
    extractor: nn.Module = kinds[kind](model, out_indices=indices)
    extractor.pretrained_cfg = extractor.default_cfg = {  # type: ignore[assignment]
        **model.pretrained_cfg,
        "num_classes": 0,
        "pool_size": None,
        "classifier": None,
    }
    return extractor


def _untrained(name: str) -> Fundus2VideoEncoder:
    encoder = Fundus2VideoEncoder(_configuration(name))
    initialise(encoder, int(torch.randint(2**31, (), device="cpu")))
    return encoder


def _configuration(name: str) -> WeightsConfig:
    """The model's own configuration, or the paper's network where it has no weights here."""
    try:
        return read_config(registry.resolve(name))
    except WeightsNotFoundError:
        card = ModelCard(licence="Apache-2.0", training_data="none: random weights")
        network = Architecture().model_dump(mode="json")
        return WeightsConfig(name=name, kind=KIND, network=network, transform=Transform(), card=card)


def _create_peer(
    peer: Peer, pretrained: bool, overlay: dict[str, Any], settings: dict[str, Any]
) -> nn.Module:
    theirs: Any = timm.models.get_pretrained_cfg(peer.backbone)
    stated = _settings(peer.name, peer.transform, peer.card)
    for key in ("first_conv", "classifier", "fixed_input_size"):
        stated[key] = getattr(theirs, key)
    pools = theirs.pool_size  # of their own size of input
    shrink = peer.transform.size / theirs.input_size[-1]
    stated["pool_size"] = pools and tuple(int(side * shrink) for side in pools)
    if pretrained:
        loaded: Any = registry.load(peer.name)
        stated["state_dict"] = dict(loaded.backbone.state_dict())
    arguments = {"num_classes": 0, **peer.arguments, **settings}
    model: Any = timm.create_model(
        peer.backbone,
        pretrained=pretrained,
        pretrained_cfg={**stated, "num_classes": 0, **overlay},
        **arguments,
    )
    model.pretrained_cfg.pop("state_dict", None)
    created: nn.Module = model
    return created


def _settings(name: str, transform: Transform, card: ModelCard) -> dict[str, Any]:
    return pretrained_cfg(
        transform,
        card,
        architecture=name,
        stride=STRIDES[-1],
        first_conv="encoder.model.1",
        classifier="encoder.head",
    )


def _below(pattern: Any) -> Any:
    if isinstance(pattern, str):
        return pattern.replace("^", r"^encoder\.")
    return [(_below(one), *rest) for one, *rest in pattern]


def _register(name: str) -> None:
    def entrypoint(pretrained: bool = False, **settings: Any) -> nn.Module:
        return create(name, pretrained, **settings)

    entrypoint.__name__, entrypoint.__module__ = name, __name__
    timm.models.register_model(entrypoint)


def _default_cfgs() -> dict[str, Any]:
    found = {}
    for name in (summary.name for summary in registry.list_models()):
        if name in PEERS:
            stated = _settings(name, PEERS[name].transform, PEERS[name].card)
        else:
            config = _configuration(name)
            stated = _settings(name, config.transform, config.card)
        found[name] = stated
    return found


__all__ = ["TimmEncoder", "create"]
names = tuple(__all__)
default_cfgs = timm.models.generate_default_cfgs(_default_cfgs())
for registered in default_cfgs:
    _register(registered)
__all__ = list(names)
