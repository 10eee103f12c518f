"""What the paper's terms do: each switched off in turn, on drawn retinas, the same steps and seeds.

    python benchmarks/pretraining_ablation.py [--steps 400] [--seeds 2]

Everything else stays as in the ``tiny`` preset, with the adversary from the start. Figures are of held-back
drawn eyes: error of the attention map against the knowledge mask, and L1 of generated frames inside and
outside the knowledge mask (true last triples, all ten steps).
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
import torch

from retina_fm.network import Generator
from retina_fm.training import draw_retina, prepare_drawn
from retina_fm.training.pretraining.checkpoints import list_checkpoints, load_checkpoint
from retina_fm.training.pretraining.data.samples import RenderedSamples
from retina_fm.training.pretraining.losses import terms as losses
from retina_fm.training.pretraining.presets import preset_named, with_settings
from retina_fm.training.pretraining.pretrain import pretrain
from retina_fm.training.pretraining.run_settings import Limits, Machine

VARIANTS = {
    "all terms": {},
    "no patch contrast (mask)": {"weights.patch_nce": 0.0},
    "no attention loss": {"weights.attention": 0.0},
    "no knowledge-aware discriminator": {"knowledge": False},
}
PAPER = {
    "weights.reconstruction": 0.0, "weights.correlation": 0.0, "weights.lesions": 0.0,
    "weights.patch_nce": 1.0, "weights.attention": 4.0, "weights.adversarial": 2.0,
    "weights.feature_matching": 10.0, "curriculum.adversarial_from": 0.0, "curriculum.lesions_from": 0.0,
    "curriculum.own_frames": 0.0,
}  # fmt: skip


@torch.no_grad()
def judge(generator: Generator, stream: RenderedSamples) -> dict[str, float]:
    found: dict[str, list[float]] = {"attention_error": [], "l1_inside_mask": [], "l1_outside_mask": []}
    for index in range(10):
        samples = stream.batch_at(index)
        made = generator(samples.photo, samples.last)
        found["attention_error"].append(
            float(losses.attention_loss(made.attention, samples.mask, samples.field_of_view))
        )
        error = (made.frames - samples.target).abs()
        found["l1_inside_mask"].append(float(losses.inside_mean(error, samples.mask)))
        outside = samples.field_of_view * (1 - samples.mask)
        found["l1_outside_mask"].append(float(losses.inside_mean(error, outside)))
    return {name: float(np.mean(values)) for name, values in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--eyes", type=int, default=12)
    arguments = parser.parse_args()
    eyes = [prepare_drawn(draw_retina(seed, 128)) for seed in range(arguments.eyes + 4)]
    held = RenderedSamples(eyes[-4:], batch=4, crop=None, seed=99)
    table: dict[str, list[dict[str, float]]] = {name: [] for name in VARIANTS}
    for seed in range(arguments.seeds):
        for name, change in VARIANTS.items():
            preset = with_settings(preset_named("tiny"), {**PAPER, **change, "steps": arguments.steps})
            with tempfile.TemporaryDirectory() as folder:
                pretrain(
                    RenderedSamples(eyes[:-4], batch=4, crop=64, seed=seed),
                    folder,
                    preset,
                    limits=Limits(log_steps=100),
                    machine=Machine(device="cpu", precision="float32"),
                    seed=seed,
                    tensorboard=False,
                )
                state = load_checkpoint(list_checkpoints(Path(folder))[-1]).tensors["average"]
            generator = Generator(preset.architecture).eval()
            generator.load_state_dict(state)
            table[name].append(judge(generator, held))
            print(seed, name, {k: round(v, 4) for k, v in table[name][-1].items()}, flush=True)
    print(json.dumps({"steps": arguments.steps, "figures": table}, indent=2))


if __name__ == "__main__":
    main()
