"""A pretraining run on crude eyes as a process of its own, for tests that kill it or start several.

python run_crude.py OUT MAX_STEPS BATCH ACCUMULATION SAVE_STEPS SECONDS_A_BATCH
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import torch
from crude_stream import CrudeStream

from retina_fm.training.pretraining.presets import preset_named, with_settings
from retina_fm.training.pretraining.pretrain import pretrain
from retina_fm.training.pretraining.run_settings import Limits, Machine


def crude_preset(batch: int = 2, accumulation: int = 1, steps: int = 40):
    settings = {
        "batch": batch,
        "accumulation": accumulation,
        "steps": steps,
        "curriculum.adversarial_from": 0.2,
    }
    return with_settings(preset_named("tiny"), settings)


class SlowStream(CrudeStream):
    """Takes its time, so that a test can kill the run between two steps."""

    seconds = 0.0

    def batch_at(self, index):
        time.sleep(self.seconds)
        return super().batch_at(index)


def main() -> None:
    out, numbers = Path(sys.argv[1]), sys.argv[2:]
    steps, batch, accumulation, save = (int(n) for n in numbers[:4])
    torch.set_num_threads(1)
    stream = SlowStream(batch=batch)
    stream.seconds = float(numbers[4])
    report = pretrain(
        stream,
        out,
        crude_preset(batch, accumulation),
        limits=Limits(max_steps=steps, save_steps=save, log_steps=1),
        machine=Machine(device="cpu", precision="float32"),
        resume=True,
        tensorboard=False,
    )
    (out / "losses.json").write_text(json.dumps(report.losses))


if __name__ == "__main__":
    main()
