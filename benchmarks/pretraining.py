"""How fast pretraining steps are, against the public code's way of stepping, in one run.

    python benchmarks/pretraining.py [--preset fundus2video-half] [--crop 256] [--batch 4] [--device cpu]

The public way: one picture at a time, the frames of a video one step after the other, float32, with its
two-scale discriminators run twice. Ours: a batch of independent (sequence, step) samples in bfloat16, the
same losses. Both with blank samples, so that no time goes to data. Prints frames a second of both, their
ratio, the FLOPs of a step, and the share of the machine's own rate of bfloat16 matrix products, measured in
the same run.
"""

from __future__ import annotations

import argparse
import json

import torch
from timing import best_of, matrix_job
from torch.utils.flop_counter import FlopCounterMode

from retina_fm.training.pretraining.batch_size import blank_samples
from retina_fm.training.pretraining.losses import terms as losses
from retina_fm.training.pretraining.losses.learner import total_loss
from retina_fm.training.pretraining.presets import LossWeights, preset_named, with_settings
from retina_fm.training.pretraining.run_state import RunState

SAME_TERMS = LossWeights(adversarial=2.0, feature_matching=10.0, patch_nce=0.0, attention=4.0)
"""PatchNCE is left out on both sides: it has no head here."""


def stepper(state: RunState, weights: LossWeights, samples, device: torch.device, bfloat16: bool):
    """One update of generator and, with adversarial terms, discriminators."""
    adversarial = weights.adversarial > 0

    def step() -> None:
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=bfloat16):
            if adversarial:
                state.judge.requires_grad_(False)
            learned = state.learner(samples, weights, state.judge if adversarial else None, 0)
            loss = total_loss(learned.terms, weights)
        loss.backward()
        state.optimiser.step()
        state.optimiser.zero_grad(set_to_none=True)
        if not adversarial:
            return
        state.judge.requires_grad_(True)
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=bfloat16):
            both = torch.cat([samples.target, learned.frames.detach()])
            photo, mask = samples.photo.repeat(2, 1, 1, 1), samples.mask.repeat(2, 1, 1, 1)
            halves = [score.float().chunk(2) for score in state.judge(photo, both, mask).scores]
            loss = losses.lsgan_discriminator([h[0] for h in halves], [h[1] for h in halves])
        loss.backward()
        state.judge_optimiser.step()
        state.judge_optimiser.zero_grad(set_to_none=True)

    return step


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--preset", default="fundus2video-half")
    parser.add_argument("--crop", type=int, default=256)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--compile", action="store_true")
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    preset = with_settings(
        preset_named(arguments.preset), {"curriculum.crops": (arguments.crop,), "weights.adversarial": 1.0}
    )
    found: dict[str, object] = {"device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu"}
    found["threads"] = torch.get_num_threads()

    matrix, matrix_flop = matrix_job(torch.bfloat16, device)
    rate = matrix_flop / best_of({"matrix": matrix})["matrix"]
    one = blank_samples(preset, 1, device)
    public = RunState(preset, 0, device, channels_last=False)
    step = stepper(public, SAME_TERMS, one, device, bfloat16=False)
    public_seconds = best_of({"step": step}, arguments.repeats)["step"]
    del public

    many = blank_samples(preset, arguments.batch, device)
    ours = RunState(preset, 0, device)
    if arguments.compile:
        ours.learner.generator.compile()
    step = stepper(ours, SAME_TERMS, many, device, bfloat16=True)
    ours_seconds = best_of({"step": step}, arguments.repeats)["step"]
    warm = preset.weights.model_copy(update={"adversarial": 0.0, "feature_matching": 0.0, "patch_nce": 0.0})
    warm_step = stepper(ours, warm, many, device, bfloat16=True)
    warm_seconds = best_of({"step": warm_step}, arguments.repeats)["step"]
    del ours
    plain = RunState(preset, 0, device)
    flops = {}
    for name, weights in (("same_terms", SAME_TERMS), ("warm_start", warm)):
        with FlopCounterMode(display=False) as counter:
            stepper(plain, weights, many, device, bfloat16=True)()
        flops[name] = counter.get_total_flops()
    frames = 3 * arguments.batch
    found |= {
        "preset": preset.name,
        "crop": arguments.crop,
        "batch": arguments.batch,
        "compiled": arguments.compile,
        "matrix_gflops_bfloat16": round(rate / 1e9, 1),
        "public_way_frames_per_second": round(3 / public_seconds, 3),
        "ours_frames_per_second": round(frames / ours_seconds, 3),
        "ratio": round(frames / ours_seconds * public_seconds / 3, 2),
        "step_gflop": round(flops["same_terms"] / 1e9, 1),
        "share_of_matrix_rate": round(flops["same_terms"] / ours_seconds / rate, 3),
        "warm_start_samples_per_second": round(arguments.batch / warm_seconds, 3),
        "warm_start_step_gflop": round(flops["warm_start"] / 1e9, 1),
        "warm_start_share_of_matrix_rate": round(flops["warm_start"] / warm_seconds / rate, 3),
    }
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
