"""timm's contract, one function a promise, written from reading its tests and documentation.

Each function takes a :class:`Model` and raises where the promise is not kept. ``CHECKS`` has them all by
name; ``count.py`` runs them over every registered model, ``test_timm.py`` over the smallest.
"""

from __future__ import annotations

import copy
import importlib
import inspect
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

import retina_fm
from retina_fm._vision import import_vision
from retina_fm.network import Encoder

timm = import_vision("timm")
CHECKS: dict[str, Callable[[Model], None]] = {}
BY_DESIGN = {
    "scripted": "TorchScript is deprecated and takes no generators; use torch.export",
}
"""Checks that models of this project do not pass, and why."""


def check(function: Callable[[Model], None]) -> Callable[[Model], None]:
    CHECKS[function.__name__] = function
    return function


@dataclass(frozen=True)
class Model:
    """A registered name, and how to have it."""

    name: str

    def create(self, **settings: Any) -> Any:
        """``timm.create_model``; a tree without registration gives what ``load`` gives."""
        torch.manual_seed(0)
        try:
            importlib.import_module("retina_fm.models.timm_models")
        except ModuleNotFoundError:
            assert not settings, "not registered with timm"
            return retina_fm.load(self.name)
        return timm.create_model(self.name, **settings).eval()

    def views(self, model: Any, count: int = 1, size: int = 96, channels: int = 3) -> Tensor:
        settings = getattr(model, "default_cfg", {"input_size": (3, size, size)})
        if settings.get("fixed_input_size"):
            size = settings["input_size"][-1]
        generator = torch.Generator().manual_seed(1)
        return torch.rand(count, channels, size, size, generator=generator) * 1.9 - 0.9


def spatial(model: Any) -> bool:
    """Whether the last map has places in two axes; a transformer's tokens have them in one."""
    return "vit" not in type(model).__name__.lower() and "VisionTransformer" not in type(model).__name__


@check
def registered(model: Model) -> None:
    model.create()
    assert model.name in timm.list_models() and timm.is_model(model.name)


@check
def called_gives_a_tensor(model: Model) -> None:
    net = model.create()
    with torch.no_grad():
        found = net(model.views(net))
    assert isinstance(found, Tensor) and found.shape[0] == 1 and not found.isnan().any()


@check
def batches_of_two(model: Model) -> None:
    net = model.create(num_classes=4)
    with torch.no_grad():
        assert net(model.views(net, 2)).shape == (2, 4)


@check
def every_parameter_has_a_gradient(model: Model) -> None:
    net = model.create(num_classes=42).train()
    found = net(model.views(net, 2))
    found.mean().backward()
    assert found.shape[-1] == 42
    for inner in (one for one in net.modules() if isinstance(one, Encoder) and one.architecture.coarse_maps):
        # an embedding reads maps at stride 2: what makes them finer learns from the maps themselves
        inner.features(model.views(net, 2)).lesions.mean().backward()
    assert [name for name, value in net.named_parameters() if value.grad is None] == []


@check
def features_are_a_tensor(model: Model) -> None:
    net = model.create()
    with torch.no_grad():
        found = net.forward_features(model.views(net))
    assert isinstance(found, Tensor) and found.ndim in (3, 4)


@check
def features_have_num_features_channels(model: Model) -> None:
    net = model.create()
    with torch.no_grad():
        found = net.forward_features(model.views(net))
    assert found.shape[1 if found.ndim == 4 else -1] == net.num_features


@check
def features_have_pool_size(model: Model) -> None:
    net = model.create()
    size = net.default_cfg["input_size"][-1]
    if not spatial(net):
        return
    with torch.no_grad():
        found = net.forward_features(model.views(net, size=size))
    assert tuple(found.shape[-2:]) == tuple(net.default_cfg["pool_size"])


@check
def features_do_tensor_arithmetic(model: Model) -> None:
    net = model.create()
    with torch.no_grad():
        found = net.forward_features(model.views(net))
        assert (found * 2).flatten(1).mean(1).shape == (1,)


@check
def head_gives_pre_logits(model: Model) -> None:
    net = model.create(num_classes=3)
    with torch.no_grad():
        found = net.forward_head(net.forward_features(model.views(net)), pre_logits=True)
    assert found.shape == (1, net.head_hidden_size)


@check
def head_takes_a_clone(model: Model) -> None:
    net = model.create()
    with torch.no_grad():
        features = net.forward_features(model.views(net))
        whole = net.forward_head(features, pre_logits=True)
        again = net.forward_head(features.clone(), pre_logits=True)
    assert torch.equal(whole, again)


@check
def two_steps_equal_one(model: Model) -> None:
    net = model.create(num_classes=3)
    view = model.views(net)
    with torch.no_grad():
        assert torch.allclose(net.forward_head(net.forward_features(view)), net(view), atol=1e-5)


@check
def head_without_classes_gives_the_embedding(model: Model) -> None:
    net = model.create()
    with torch.no_grad():
        found = net.forward_head(net.forward_features(model.views(net)))
    assert found.shape == (1, net.head_hidden_size)


@check
def sizes_are_stated(model: Model) -> None:
    net = model.create()
    assert net.num_classes >= 0 and net.num_features > 0 and net.head_hidden_size > 0


@check
def classes_at_creation(model: Model) -> None:
    assert model.create(num_classes=7).num_classes == 7


@check
def classes_reset(model: Model) -> None:
    net = model.create()
    net.reset_classifier(5)
    assert net.num_classes == 5
    with torch.no_grad():
        found = net(model.views(net))
    assert found.shape == (1, 5)


@check
def classes_taken_away(model: Model) -> None:
    net = model.create(num_classes=5)
    net.reset_classifier(0)
    with torch.no_grad():
        found = net(model.views(net))
    assert net.num_classes == 0 and found.shape == (1, net.head_hidden_size)


@check
def unpooled_by_reset(model: Model) -> None:
    net = model.create()
    net.reset_classifier(0, "")
    with torch.no_grad():
        assert net(model.views(net)).ndim == (4 if spatial(net) else 3)


@check
def unpooled_by_creation(model: Model) -> None:
    net = model.create(num_classes=0, global_pool="")
    with torch.no_grad():
        assert net(model.views(net)).ndim == (4 if spatial(net) else 3)


@check
def classifier_is_found(model: Model) -> None:
    net = model.create(num_classes=5)
    assert isinstance(net.get_classifier(), nn.Module)
    assert net.get_classifier().weight.shape == (5, net.head_hidden_size)


@check
def classifier_has_its_stated_name(model: Model) -> None:
    net = model.create(num_classes=5)
    assert f"{net.default_cfg['classifier']}.weight" in net.state_dict()


@check
def first_convolution_has_its_stated_name(model: Model) -> None:
    net = model.create()
    assert f"{net.default_cfg['first_conv']}.weight" in net.state_dict()


@check
def data_settings_are_the_models(model: Model) -> None:
    net = model.create()
    found = timm.data.resolve_model_data_config(net)
    transform = _transform(model.name)
    assert found["input_size"] == (3, transform.size, transform.size)
    assert tuple(found["mean"]) == tuple(transform.mean) and tuple(found["std"]) == tuple(transform.std)
    assert found["interpolation"] == transform.resample


@check
def default_cfg_is_pretrained_cfg(model: Model) -> None:
    net = model.create()
    assert net.default_cfg == net.pretrained_cfg and net.pretrained_cfg["architecture"]


@check
def settings_by_name(model: Model) -> None:
    model.create()
    found = timm.models.get_pretrained_cfg(model.name)
    assert found is not None and found.input_size[-1] == _transform(model.name).size


@check
def information_about_maps(model: Model) -> None:
    net = model.create()
    found = timm.models.FeatureInfo(net.feature_info, len(net.feature_info))
    assert len(found.channels()) == len(found.reduction()) >= 3
    assert found.reduction() == sorted(found.reduction())


@check
def information_by_index(model: Model) -> None:
    info = model.create().feature_info
    assert {"num_chs", "reduction", "module"} <= set(info[0]) and info[-1]["num_chs"] > 0


@check
def information_names_modules(model: Model) -> None:
    net = model.create()
    modules = dict(net.named_modules())
    assert all(entry["module"] in modules for entry in net.feature_info)


@check
def loaded_information_has_timms_accessors(model: Model) -> None:
    info = _loaded(model).feature_info
    assert info.module_name() == [entry["module"] for entry in info.get_dicts()]
    assert info.get_dicts(keys=["num_chs"])[0] == {"num_chs": info.channels(0)}
    assert info.get("reduction", (0, -1)) == [info[0]["reduction"], info[-1]["reduction"]]


@check
def maps_fit_their_information(model: Model) -> None:
    net = model.create()
    view = model.views(net)
    with torch.no_grad():
        _, maps = net.forward_intermediates(view, output_fmt="NCHW")
    assert len(maps) == len(net.feature_info)
    for entry, found in zip(net.feature_info, maps, strict=True):
        assert found.shape[1] == entry["num_chs"] and not found.isnan().any()
        assert found.shape[2] <= math.ceil(view.shape[2] / entry["reduction"]) + 1


@check
def last_map_equals_features(model: Model) -> None:
    net = model.create()
    view = model.views(net)
    with torch.no_grad():
        last, _ = net.forward_intermediates(view, output_fmt="NCHW")
        assert torch.allclose(last, net.forward_features(view), atol=1e-6)


@check
def maps_by_positions(model: Model) -> None:
    net = model.create()
    view = model.views(net)
    with torch.no_grad():
        _, every = net.forward_intermediates(view, output_fmt="NCHW")
        _, some = net.forward_intermediates(view, indices=[1, -1], output_fmt="NCHW")
    assert torch.allclose(some[0], every[1]) and torch.allclose(some[1], every[-1]) and len(some) == 2


@check
def maps_by_number(model: Model) -> None:
    net = model.create()
    with torch.no_grad():
        assert len(net.forward_intermediates(model.views(net), indices=2)[1]) == 2


@check
def maps_alone(model: Model) -> None:
    net = model.create()
    with torch.no_grad():
        found = net.forward_intermediates(model.views(net), indices=[0, 1], intermediates_only=True)
    assert isinstance(found, list) and len(found) == 2


@check
def stopping_early(model: Model) -> None:
    net = model.create()
    view = model.views(net)
    with torch.no_grad():
        whole = net.forward_intermediates(view, indices=[1], intermediates_only=True)[0]
        early = net.forward_intermediates(view, indices=[1], intermediates_only=True, stop_early=True)[0]
    assert torch.allclose(whole, early, atol=1e-6)


@check
def normalised_maps(model: Model) -> None:
    net = model.create()
    with torch.no_grad():
        found = net.forward_intermediates(model.views(net), norm=True, intermediates_only=True)
    assert not any(m.isnan().any() for m in found)


@check
def other_formats(model: Model) -> None:
    net = model.create()
    layout = "NCHW" if type(net).__name__ == "ResNet" else "NLC"
    with torch.no_grad():
        found = net.forward_intermediates(model.views(net), 1, output_fmt=layout, intermediates_only=True)[0]
    assert found.shape[-1 if layout == "NLC" else 1] == net.feature_info[-1]["num_chs"]


@check
def pruned_maps_are_the_same(model: Model) -> None:
    net = model.create()
    view = model.views(net)
    with torch.no_grad():
        before = net.forward_intermediates(view, indices=[1, 2], intermediates_only=True)
        count = sum(p.numel() for p in net.parameters())
        kept = net.prune_intermediate_layers([1, 2])
        after = net.forward_intermediates(view, indices=kept, intermediates_only=True)
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(before, after, strict=True))
    assert sum(p.numel() for p in net.parameters()) < count


@check
def maps_only_model(model: Model) -> None:
    net = model.create(features_only=True)
    with torch.no_grad():
        maps = net(model.views(net))
    assert [m.shape[1] for m in maps] == net.feature_info.channels() and len(maps) >= 3


@check
def maps_only_by_positions(model: Model) -> None:
    net = model.create(features_only=True, out_indices=(1, 2))
    with torch.no_grad():
        maps = net(model.views(net))
    assert len(maps) == 2 and net.feature_info.reduction() == [
        net.feature_info.info[i]["reduction"] for i in (1, 2)
    ]


@check
def maps_only_by_getter(model: Model) -> None:
    net = model.create(features_only=True, feature_cls="getter")
    with torch.no_grad():
        assert len(net(model.views(net))) == len(net.feature_info.channels())


@check
def checkpointing_changes_nothing(model: Model) -> None:
    net = model.create(num_classes=3).train()
    view = model.views(net, 2)
    usual = net(view)
    usual.square().mean().backward()
    gradients = [None if p.grad is None else p.grad.clone() for p in net.parameters()]
    net.zero_grad()
    net.set_grad_checkpointing()
    again = net(view)
    again.square().mean().backward()
    assert torch.allclose(usual, again, rtol=1e-4, atol=1e-5)
    for before, parameter in zip(gradients, net.parameters(), strict=True):
        if before is None:
            assert parameter.grad is None
        else:
            assert torch.allclose(before, parameter.grad, rtol=1e-3, atol=1e-5)


@check
def checkpointing_saves_memory(model: Model) -> None:
    net = model.create(num_classes=3).train()
    view = model.views(net)
    usual = kept_for_backward(net, view)
    net.set_grad_checkpointing()
    assert kept_for_backward(net, view) < 0.75 * usual


@check
def layer_groups_cover_the_parameters(model: Model) -> None:
    net = model.create(num_classes=3)
    for coarse in (False, True):
        groups = timm.models.group_parameters(net, net.group_matcher(coarse=coarse))
        named = [name for names in groups.values() for name in names]
        assert sorted(named) == sorted(name for name, _ in net.named_parameters()) and len(groups) > 3


@check
def layer_decay_in_timms_optimiser(model: Model) -> None:
    net = model.create(num_classes=3)
    optim = importlib.import_module("timm.optim")
    optimiser = optim.create_optimizer_v2(net, opt="adamw", lr=1e-3, layer_decay=0.75)
    scales = [group["lr_scale"] for group in optimiser.param_groups]
    assert min(scales) < max(scales) == 1.0


@check
def traced_by_fx(model: Model) -> None:
    extraction = importlib.import_module("torchvision.models.feature_extraction")
    settings = {
        "leaf_modules": timm.models.get_notrace_modules(),
        "autowrap_functions": timm.models.get_notrace_functions(),
        "param_shapes_constant": True,
    }
    net = model.create(num_classes=3)
    view = model.views(net)
    with torch.inference_mode():
        _, nodes = extraction.get_graph_node_names(net, tracer_kwargs=settings)
        graph = extraction.create_feature_extractor(net, return_nodes=[nodes[-1]], tracer_kwargs=settings)
        assert torch.equal(next(iter(graph(view).values())), net(view))


@check
def scripted(model: Model) -> None:
    net = model.create()
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        assert torch.jit.script(net)(model.views(net)).shape[0] == 1


@check
def one_channel(model: Model) -> None:
    net = model.create(in_chans=1, num_classes=5)
    with torch.no_grad():
        assert net(model.views(net, channels=1)).shape == (1, 5)


@check
def state_moves_to_another_instance(model: Model) -> None:
    one, other = model.create(num_classes=3), model.create(num_classes=3)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
        other.load_state_dict(one.state_dict())
        assert torch.equal(one(model.views(one)), other(model.views(one)))


@check
def a_deep_copy_gives_the_same(model: Model) -> None:
    net = model.create(num_classes=3)
    view = model.views(net)
    with torch.no_grad():
        assert torch.equal(copy.deepcopy(net)(view), net(view))


@check
def loaded_models_answer_too(model: Model) -> None:
    net = _loaded(model)
    size = model.views(net, size=96)
    for name in ("forward_intermediates", "set_grad_checkpointing", "get_classifier", "reset_classifier"):
        assert callable(getattr(net, name))
    with torch.no_grad():
        found = net.forward_intermediates(size, 1, intermediates_only=True)
        pooled = net.forward_head(net.forward_features(size), pre_logits=True)
        assert len(found) == 1 and torch.allclose(pooled, net.embed(size), atol=1e-5)


def kept_for_backward(net: nn.Module, view: Tensor) -> int:
    """Bytes that the graph of one forward pass keeps, parameters left out."""
    seen: dict[int, int] = {}
    parameters = {p.untyped_storage().data_ptr() for p in net.parameters()}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters:
            seen[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        found = net(view)
    assert inspect.isclass(type(found))
    return sum(seen.values())


def _transform(name: str) -> Any:
    peers = importlib.import_module("retina_fm.models.peers").PEERS
    return peers[name].transform if name in peers else _configuration(name).transform


def _configuration(name: str) -> Any:
    folder = importlib.import_module("retina_fm.models.folder")
    registry = importlib.import_module("retina_fm.models.registry")
    try:
        return folder.read_config(registry.resolve(name))
    except FileNotFoundError:
        return importlib.import_module("types").SimpleNamespace(transform=retina_fm.Transform())


def _loaded(model: Model) -> Any:
    """What ``retina_fm.load`` gives; without weights, the encoder or backbone behind the name."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # licences
        try:
            return retina_fm.load(model.name)
        except FileNotFoundError:
            return _without_weights(model)


def _without_weights(model: Model) -> Any:
    created = model.create()
    if hasattr(created, "encoder"):
        return created.encoder
    peer = importlib.import_module("retina_fm.models.peers").PEERS[model.name]
    folder = importlib.import_module("retina_fm.models.folder")
    backbones = importlib.import_module("retina_fm.models.backbones")
    config = folder.WeightsConfig(
        model.name,
        "timm",
        peer.transform,
        peer.card,
        {"backbone": peer.backbone, "arguments": peer.arguments},
    )
    return backbones.BackboneEncoder(created, config).eval()
