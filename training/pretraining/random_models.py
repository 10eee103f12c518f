"""Weights folders of the random baselines: a seed, and pooling fitted on drawn retinas.

``python -m retina_fm.training.pretraining.random_models weights`` writes them anew.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from retina_fm.models import ModelCard, WeightsConfig, save_folder
from retina_fm.models.fundus2video import KIND
from retina_fm.network import Architecture, Encoder, initialise
from retina_fm.pictures import Transform
from retina_fm.training.simulator.anatomy.drawn import draw_patient

SEED = 20261124
PATIENTS = 32
_SICK = {"haemorrhage": 6, "hard_exudate": 8, "microaneurysm": 12, "drusen": 4}
_CARD = ModelCard(
    licence="Apache-2.0",
    training_data="none: random weights from a fixed seed; pooling centred and scaled on drawn retinas",
    intended_use="Baselines, tests and trials. Not a medical device; not for decisions about patients.",
    pooling="quantiles before normalisation, random projection",
)
MODELS = {
    "fundus2video-random": (Architecture(), Transform()),
    "fundus2video-tiny": (Architecture(width=4, encoder_blocks=1, embedding=64), Transform(size=128)),
}


def drawn_views(transform: Transform, patients: int = PATIENTS) -> Iterator[Tensor]:
    """Views ``(1, 3, S, S)`` of both eyes of drawn patients, every third of them with lesions."""
    for number in range(patients):
        for eye in draw_patient(10_000 + number, 512, lesions=_SICK if number % 3 == 0 else {}):
            yield torch.from_numpy(transform.normalise(transform.view(eye.photo)[0]))[None]


def write_random_model(folder: Path, name: str, patients: int = PATIENTS) -> WeightsConfig:
    """Fit the pooling of a seeded encoder and write its folder; the network itself stays a seed."""
    architecture, transform = MODELS[name]
    encoder = Encoder(architecture).eval()
    initialise(encoder, SEED)
    with torch.inference_mode():
        statistics = torch.cat([encoder.statistics(view) for view in drawn_views(transform, patients)])
    encoder.pooling.fit_scale(statistics)
    config = WeightsConfig(
        name=name,
        kind=KIND,
        transform=transform,
        card=_CARD,
        network=architecture.model_dump(mode="json"),
        seed=SEED,
        provenance={"pooling_fitted_on": f"{2 * patients} drawn retinas"},
    )
    tensors = {f"pooling.{key}": getattr(encoder.pooling, key) for key in ("offset", "scale")}
    return save_folder(folder / name, config, tensors)


def main() -> None:
    """Write every random model below the folder named on the command line."""
    for name in MODELS:
        config = write_random_model(Path(sys.argv[1]), name)
        print(name, config.sha256)


if __name__ == "__main__":
    main()
