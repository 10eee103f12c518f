"""SAM 2 for vessels on a tiny random configuration; needs transformers, without which it says so."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from conftest import disc_picture
from retina_fm._vision import import_vision
from retina_fm.errors import MissingDependencyError, WeightsError, WeightsNotFoundError
from retina_fm.evaluation.baselines.sam2 import Sam2Vessels, load_sam2

there = importlib.util.find_spec("transformers") is not None


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    transformers = pytest.importorskip("transformers", minversion="4.56")
    import torch

    import_vision("transformers.models.sam2.modeling_sam2")

    backbone = transformers.Sam2HieraDetConfig(
        hidden_size=8, num_attention_heads=1, image_size=[64, 64], blocks_per_stage=[1, 1, 2, 1],
        embed_dim_per_stage=[8, 16, 32, 64], num_attention_heads_per_stage=[1, 1, 1, 1],
        window_size_per_stage=[4, 4, 4, 4], global_attention_blocks=[3],
    )  # fmt: skip
    vision = transformers.Sam2VisionConfig(
        backbone_config=backbone, backbone_channel_list=[64, 32, 16, 8], fpn_hidden_size=32,
        backbone_feature_sizes=[[16, 16], [8, 8], [4, 4]],
    )  # fmt: skip
    prompt = transformers.Sam2PromptEncoderConfig(hidden_size=32, image_size=64, patch_size=16)
    decoder = transformers.Sam2MaskDecoderConfig(
        hidden_size=32, mlp_dim=32, num_attention_heads=2, iou_head_hidden_dim=16
    )
    config = transformers.Sam2Config(
        vision_config=vision, prompt_encoder_config=prompt, mask_decoder_config=decoder
    )
    torch.manual_seed(0)
    transformers.Sam2Model(config).save_pretrained(tmp_path / "sam2")
    return tmp_path / "sam2"


def test_a_tiny_checkpoint_is_loaded_prompted_and_trained(checkpoint: Path, tmp_path: Path) -> None:
    picture = disc_picture(0, 80)
    Image.fromarray(picture).save(tmp_path / "a.png")
    mask = np.zeros((80, 80), bool)
    mask[:, 38:42] = True
    untrained = Sam2Vessels(checkpoint)
    scores = untrained.predict_proba(tmp_path / "a.png")
    assert scores.shape == (80, 80)
    assert 0 <= scores.min() <= scores.max() <= 1
    trained = Sam2Vessels(checkpoint, steps=20, rate=1e-2).fit([tmp_path / "a.png"], [mask])
    found = trained.predict_proba(tmp_path / "a.png")
    inside = found > 0
    gain = [float(p[mask & inside].mean() - p[~mask & inside].mean()) for p in (scores, found)]
    assert gain[1] > gain[0]


def test_a_checkpoint_that_lacks_tensors_is_refused(checkpoint: Path) -> None:
    from safetensors.numpy import load_file, save_file

    file = checkpoint / "model.safetensors"
    tensors = load_file(file)
    tensors.pop(next(key for key in tensors if key.startswith("mask_decoder")))
    save_file(tensors, file, metadata={"format": "pt"})
    with pytest.raises(WeightsError, match="lacks 1 tensors"):
        load_sam2(checkpoint)


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    if there:
        with pytest.raises(WeightsNotFoundError, match=r"no config\.json"):
            load_sam2(tmp_path)
    else:
        with pytest.raises(MissingDependencyError, match="sam2"):
            load_sam2(tmp_path)
