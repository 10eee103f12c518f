"""Two sequences can be learnt by heart: the whole machinery points the right way."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from crude_stream import sample_steps

from retina_fm.metrics.videos import psnr
from retina_fm.network import Architecture, Generator
from retina_fm.training import render_batch
from retina_fm.training.pretraining.checkpoints import list_checkpoints, load_checkpoint
from retina_fm.training.pretraining.data.streams import seed_of
from retina_fm.training.pretraining.presets import preset_named, with_settings
from retina_fm.training.pretraining.pretrain import pretrain
from retina_fm.training.pretraining.run_settings import Limits, Machine
from retina_fm.training.pretraining.validating.validation import HeldBack, sheet, video_figures


class TwoSequences:
    """The same two rendered sequences for ever, at random steps."""

    batch = 4

    def __init__(self, rendered):
        self.rendered, self.index = rendered, 0

    def batch_at(self, index):
        random = torch.Generator().manual_seed(seed_of(0, 5, index))
        rows = torch.tensor([0, 1, 0, 1])
        r = self.rendered
        return sample_steps(
            r.frames[rows],
            r.photo[rows],
            random,
            field_of_view=r.field_of_view[rows],
            lesions=r.lesions[rows],
            lesion_known=torch.ones(4, dtype=torch.bool),
        )

    def state_dict(self):
        return {"index": self.index}

    def load_state_dict(self, state):
        self.index = state["index"]


@pytest.mark.slow
def test_two_sequences_are_learnt_by_heart(tmp_path, prepared_eyes):
    rendered = render_batch(
        prepared_eyes[:2], torch.Generator().manual_seed(1), crop=96, painting=1.0, augment=False, grain=0.0
    )
    settings = {
        "steps": 500,
        "optimiser.rate": 4e-3,
        "optimiser.average": 0.95,
        "curriculum.lesions_from": 0.0,
        "curriculum.own_frames": 0.5,
        "curriculum.adversarial_from": 2.0,
        "weights.lesions": 0.2,
    }
    preset = with_settings(preset_named("tiny"), settings)
    architecture = Architecture(width=16, encoder_blocks=2, embedding=32)
    preset = preset.model_copy(update={"architecture": architecture})
    report = pretrain(
        TwoSequences(rendered),
        tmp_path,
        preset,
        limits=Limits(log_steps=50),
        machine=Machine(device="cpu", precision="float32"),
        tensorboard=False,
    )
    generator = Generator(preset.architecture).eval()
    generator.load_state_dict(load_checkpoint(list_checkpoints(tmp_path)[-1]).tensors["average"])
    figures, made = video_figures(generator, HeldBack(rendered.photo, rendered.frames * 2 - 1))
    if folder := os.environ.get("RETINA_FM_TEST_PICTURES"):
        sheet(rendered.photo, [rendered.frames * 2 - 1, made]).save(Path(folder) / "overfitted.png")
    late = psnr(made[:, 8:], rendered.frames[:, 8:] * 2 - 1)["psnr"]
    print(figures, late, report.losses[-1])
    assert figures["psnr"] > 25
    assert late > 25, "a video must not linger in the venous phase"
