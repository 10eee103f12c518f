"""timm's contract over the small model; ``count.py`` runs it over all of them."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch
from models.timm_checks import BY_DESIGN, CHECKS, Model, kept_for_backward

import retina_fm
import retina_fm.models.timm_models as timm_models
from conftest import saved_generator
from retina_fm.errors import ConfigError, ViewError
from retina_fm.network.feature_map import FeatureMap

TINY = Model("fundus2video-tiny")


@pytest.mark.parametrize("name", [name for name in CHECKS if name not in BY_DESIGN])
def test_the_smallest_model_keeps(name: str) -> None:
    CHECKS[name](TINY)


@pytest.mark.parametrize("name", sorted(BY_DESIGN))
def test_what_is_not_kept_is_known(name: str) -> None:
    with warnings.catch_warnings(), pytest.raises(Exception, match=r"\w"):
        warnings.simplefilter("ignore")
        CHECKS[name](TINY)


def test_a_map_that_was_changed_has_no_embedding() -> None:
    encoder = retina_fm.load("fundus2video-tiny")
    found = encoder.forward_features(torch.zeros(1, 3, 64, 64))
    assert isinstance(found.detach().to("cpu"), FeatureMap)
    for changed in (found * 2, found[:1], torch.relu(found)):
        assert type(changed) is torch.Tensor
        with pytest.raises(ViewError, match="pooled before"):
            encoder.forward_head(changed)


def test_pruned_encoders_say_that_they_have_no_embedding() -> None:
    encoder = retina_fm.load("fundus2video-tiny")
    assert encoder.prune_intermediate_layers([1, -3]) == [1, 2]
    view = torch.zeros(1, 3, 64, 64)
    assert [m.shape[1] for m in encoder.forward_intermediates(view, intermediates_only=True)] == [4, 8, 16]
    assert encoder.forward_features(view).shape == (1, 16, 16, 16)
    with pytest.raises(ViewError, match="pruned"):
        encoder(view)


def test_checkpointing_saves_memory_with_a_lesion_decoder_too(tmp_path: Path) -> None:
    encoder = retina_fm.load(str(saved_generator(tmp_path / "w", skips=True))).train()
    view = torch.randn(1, 3, 64, 64).clamp(-1, 1)

    class Embedding(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = encoder

        def forward(self, view: torch.Tensor) -> torch.Tensor:
            return self.encoder.embed(view)

    usual = kept_for_backward(Embedding(), view)
    encoder.set_grad_checkpointing()
    assert kept_for_backward(Embedding(), view) < 0.5 * usual


def test_wrong_settings_are_refused_by_name() -> None:
    for settings in ({"in_chans": 4}, {"drop_path_rate": 0.1}, {"features_only": True, "feature_cls": "fx"}):
        with pytest.raises(ConfigError):
            timm_models.create("fundus2video-tiny", **settings)
    encoder = retina_fm.load("fundus2video-tiny")
    with pytest.raises(ConfigError, match="maps 0 to 4"):
        encoder.forward_intermediates(torch.zeros(1, 3, 64, 64), [5])
    with pytest.raises(ConfigError, match="NLC"):
        encoder.forward_intermediates(torch.zeros(1, 3, 64, 64), output_fmt="CHW")
    with pytest.raises(ConfigError, match="fitted"):
        encoder.reset_classifier(2, "avg")


def test_pretrained_weights_are_those_that_load_gives() -> None:
    view = torch.randn(1, 3, 64, 64).clamp(-1, 1)
    with torch.inference_mode():
        created = timm_models.create("fundus2video-tiny", pretrained=True).eval()(view)
        assert torch.equal(created, retina_fm.load("fundus2video-tiny").embed(view))
