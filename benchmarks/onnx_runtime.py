"""A model in ONNX Runtime beside PyTorch: CPU seconds a view, and how far apart the embeddings are.

    python benchmarks/onnx_runtime.py PHOTOS --model fundus2video --out docs/results/onnx.json

CPU seconds of one thread are taken, not seconds on the wall, so that a machine that others use gives the same
ratios; every round measures each variant once, and the median of the rounds counts. int8 is a static
quantisation of the convolutions (QDQ, per channel), calibrated on the first photographs and judged on the
others.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

import retina_fm
from retina_fm.models.onnx_export import export_onnx, open_session
from retina_fm.pictures import expand


class Calibration:
    """Views one by one, as ONNX Runtime's quantiser asks for them."""

    def __init__(self, views: np.ndarray) -> None:
        self.views: Iterator[np.ndarray] = iter(views)

    def get_next(self) -> dict[str, np.ndarray] | None:
        view = next(self.views, None)
        return None if view is None else {"view": view[None]}


def quantised(source: Path, target: Path, views: np.ndarray) -> None:
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    prepared = target.with_suffix(".prepared.onnx")
    quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
    quantize_static(
        str(prepared),
        str(target),
        Calibration(views),
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=["Conv"],
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )


def cpu_seconds(call: Callable[[], Any]) -> float:
    begun = time.process_time()
    call()
    return time.process_time() - begun


def cosines(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    scale = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    return np.asarray((one * other).sum(1) / scale)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("photos")
    parser.add_argument("--model", default="fundus2video")
    parser.add_argument("--calibrate", type=int, default=8)
    parser.add_argument("--judge", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    encoder = retina_fm.load(arguments.model)
    photos = [
        photo
        for photo, _ in zip(
            expand(arguments.photos), range(arguments.calibrate + arguments.judge), strict=False
        )
    ]
    views = np.stack([encoder.transform.normalise(encoder.transform.view(photo)[0]) for photo in photos])
    known, others = views[: arguments.calibrate], views[arguments.calibrate :]
    found: dict[str, Any] = {"model": arguments.model, "size": encoder.transform.size, "views": len(others)}
    with tempfile.TemporaryDirectory() as folder:
        plain, small = Path(folder) / "float32.onnx", Path(folder) / "int8.onnx"
        report = export_onnx(encoder, plain, maps=False)
        quantised(plain, small, known)
        sessions = {
            "onnx float32": open_session(plain, threads=1),
            "onnx int8": open_session(small, threads=1),
        }
        found["bytes"] = {"float32": plain.stat().st_size, "int8": small.stat().st_size}
        found["difference"] = report.difference

        def with_torch(view: np.ndarray) -> np.ndarray:
            with torch.inference_mode():
                return np.asarray(encoder.embed(torch.from_numpy(view)).numpy())

        runs: dict[str, Callable[[np.ndarray], np.ndarray]] = {
            "torch float32": with_torch,
            **{name: lambda v, s=session: s.run(None, {"view": v})[0] for name, session in sessions.items()},
        }
        rows = {name: np.concatenate([run(view[None]) for view in others]) for name, run in runs.items()}
        taken: dict[str, list[float]] = {name: [] for name in runs}
        for number in range(arguments.rounds):
            view = others[number % len(others)][None]
            for name, run in runs.items():
                taken[name].append(cpu_seconds(lambda run=run, view=view: run(view)))
    middle = {name: statistics.median(times) for name, times in taken.items()}
    found["cpu_seconds_a_view"] = {name: round(value, 4) for name, value in middle.items()}
    found["times_torch"] = {name: round(middle["torch float32"] / value, 3) for name, value in middle.items()}
    for name in sessions:
        near = cosines(rows[name], rows["torch float32"])
        found[f"cosine, {name}"] = {"mean": float(near.mean()), "least": float(near.min())}
        found[f"largest difference, {name}"] = float(np.abs(rows[name] - rows["torch float32"]).max())
    text = json.dumps(found, indent=2)
    print(text)
    if arguments.out:
        Path(arguments.out).write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
