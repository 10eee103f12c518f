"""From a run's last checkpoint to a weights folder, with the pooling fitted on training photographs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import retina_fm
from retina_fm._io.tables import csv_bytes
from retina_fm.errors import ConfigError, NoPicturesError, OutputError
from retina_fm.models import ModelCard, WeightsConfig
from retina_fm.models.folder import SOURCES, check_weights_folder, fill_folder, whole_weights
from retina_fm.models.fundus2video import KIND
from retina_fm.models.whitening import fill_whitening, fit_whitening
from retina_fm.network import Encoder, Generator, encoder_of
from retina_fm.network.pooling import Pooling
from retina_fm.pictures import Transform
from retina_fm.training.pretraining import checkpoints
from retina_fm.training.pretraining.data.sources import Source, open_source
from retina_fm.training.pretraining.presets import Preset

_TINY_SHARE = 1e-6  # of the first component's variance; directions below it are noise


def export(
    run: str | Path,
    out: str | Path,
    *,
    name: str | None = None,
    licence: str = "Apache-2.0",
    training_data: str | None = None,
    citation: str = "",
    data: list[str] | None = None,
    photos: int = 512,
    calibrated_on: int = 0,
    colour: bool = False,
    anatomy: bool = False,
    clip: float = 0.0,
    averaged: bool = True,
    sources: bool = True,
) -> WeightsConfig:
    """Write a run as a weights folder that ``retina_fm.load`` reads.

    Args:
        run: folder of a pretraining run.
        out: the weights folder to write.
        name: of the model; the folder's without it.
        licence: of the weights.
        training_data: what they saw, for the card; the names of the run's data without it.
        citation: for the card.
        data: prepared eyes or pairs whose photographs the pooling is fitted on; the run's own without it.
        photos: how many of them at most.
        calibrated_on: lesion maps are made probabilities on so many windows of eyes whose every lesion is
            known; 0 leaves them as they were trained.
        colour: whether colour and texture of the view are pooled beside the maps.
        anatomy: whether what the maps of vessels and anatomy say is pooled, too.
        clip: standard deviations of the photographs beyond which a pooled statistic counts as that far, or 0.
        averaged: whether to take the moving average of the weights, where the run keeps one.
        sources: whether to write ``sources.csv``, for which the run's data must still be there.

    Returns:
        The configuration written.

    Raises:
        OutputError: there is no run or checkpoint, or the folder cannot be written.
        NoPicturesError: there are fewer than two photographs to fit on.
        ConfigError: data of the run are gone, or the run does not say what it was trained on.
    """
    run, out = Path(run), Path(out)
    check_weights_folder(out)  # before minutes of work
    about = checkpoints.read_run_file(run)
    found = checkpoints.list_checkpoints(run)
    if not found:
        raise OutputError(f"{run} has no checkpoint yet. Train it for longer.")
    places = data or about["data"]
    refuse_missing(about["data"], sources=sources, pooling=not data)
    training_data = training_data or names_of(about["data"])
    table = sources_table(about["data"]) if sources else None
    checkpoint = checkpoints.load_checkpoint(found[-1])
    preset = Preset.model_validate(about["preset"])
    source = checkpoint.tensors["average" if averaged and "average" in checkpoint.tensors else "generator"]
    provenance: dict[str, Any] = {}
    if calibrated_on:
        source, provenance["lesions_calibrated"] = _calibrated(preset, source, about["data"], calibrated_on)
    rounded = {key: value.to(torch.bfloat16) for key, value in source.items()}
    generator = Generator(preset.architecture)
    generator.load_state_dict({key: value.float() for key, value in rounded.items()})
    architecture = preset.architecture.model_copy(
        update={
            "lesion_decoder": bool(preset.architecture.lesions),
            "colour": colour,
            "pools_anatomy": anatomy,
            "clip": clip,
        }
    )
    encoder = encoder_of(generator, architecture).eval()
    views = list(training_views(places, preset.size, photos))
    embeddings = fit_pooling(encoder, views)
    pooling = {f"pooling.{key}": value for key, value in encoder.pooling.state_dict().items()}
    config = WeightsConfig(
        name=name or out.name,
        kind=KIND,
        transform=Transform(size=preset.size),
        card=ModelCard(
            licence=licence,
            training_data=training_data,
            citation=citation,
        ),
        network=architecture.model_dump(mode="json"),
        provenance={
            "preset": preset.name,
            "steps": checkpoint.state["step"],
            "samples": checkpoint.state["samples"],
            "minutes": round(checkpoint.state["minutes"], 1),
            "seed": about["seed"],
            "averaged": averaged and "average" in checkpoint.tensors,
            "pooling_fitted_on": len(views),
            "retina_fm_version": retina_fm.__version__,
            **provenance,
            **{key: about[key] for key in ("started_from", "changes", "recipe") if key in about},
        },
    )
    try:
        with whole_weights(out) as scratch:
            written = fill_folder(scratch, config, {**rounded, **pooling})
            written = fill_whitening(scratch, written, fit_whitening(embeddings.numpy()))
            if table is not None:
                (scratch / SOURCES).write_bytes(table)
        return written
    except OSError as error:
        raise OutputError(f"{out} cannot be written ({error}). Choose another --out.") from error


def _calibrated(
    preset: Preset, state: dict[str, Tensor], data: Iterable[str | Path], windows: int
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Weights whose lesion maps are probabilities, and scale and offset of each type by stride.

    Raises:
        ConfigError: no eye of the data has every lesion known.
    """
    from retina_fm.training.pretraining.calibration import calibrate, known_windows

    generator = Generator(preset.architecture)
    generator.load_state_dict({key: value.float() for key, value in state.items()})
    crop = max((side for side in preset.curriculum.crops if side), default=None)
    found = calibrate(generator, known_windows(data, windows, crop))
    return generator.state_dict(), {"windows": windows, "scale_and_offset": found}


def training_views(data: Iterable[str | Path], size: int, limit: int) -> Iterator[Tensor]:
    """Views ``(3, S, S)`` of the photographs of prepared eyes and pairs, evenly drawn where there are more.

    Raises:
        NoPicturesError: there is none.
    """
    # data that a run names twice, to be seen more often, counts once
    every = [photo for place in data for photo in open_source(place).photographs()]
    photos = list({(type(photo), photo.path.resolve()): photo for photo in every}.values())
    if len(photos) < 2:
        raise NoPicturesError(
            "Pooling is fitted on two photographs or more. Name some with --data: prepared eyes or pairs.csv."
        )
    chosen = np.unique(np.linspace(0, len(photos) - 1, min(limit, len(photos))).astype(int))
    for index in chosen:
        yield photos[index].view(size)


def names_of(data: Iterable[str | Path]) -> str:
    """What people call a run's data: names of its folders, a ``pairs.csv`` by the folder that it lies in.

    Raises:
        ConfigError: there are none.
    """
    names = {open_source(place).name for place in data}
    if not names:
        raise ConfigError("The run does not say what it was trained on. Say so with --training-data.")
    return ", ".join(sorted(names))


def refuse_missing(data: Sequence[str | Path], *, sources: bool, pooling: bool) -> None:
    """Refuse an export that needs data of the run which are gone, or were never named.

    Raises:
        ConfigError: a folder or table is not there; the message names all of them.
    """
    missing = [str(place) for place in data if not Path(place).exists()]
    if not (missing or not data) or not (sources or pooling):
        return
    what = f"was trained on {', '.join(missing)}, no longer there" if data else "names no data"
    remedies = ["--without-sources, which leaves out the list of photographs"] if sources else []
    remedies += ["--data with other photographs to fit the pooling on"] if pooling else []
    back = "Put it back, or give" if data else "Give"
    raise ConfigError(f"The run {what}. {back} {', and '.join(remedies)}.")


def sources_table(data: Iterable[str | Path]) -> bytes:
    """Every photograph that training sees as CSV: the set it is from, its name, its SHA-256.

    Raises:
        NoPicturesError: a folder holds neither prepared eyes nor a ``pairs.csv``.
        ConfigError: a photograph of a ``pairs.csv`` cannot be read.
    """
    rows: dict[tuple[str, str], tuple[str, str, str]] = {}
    for source in map(open_source, data):
        for photo, digest in _identities(source):
            # a run may name its data twice, or a part of them by another name
            rows.setdefault((photo, digest), (source.name, photo, digest))
    return csv_bytes(("set", "photo", "sha256"), sorted(rows.values()))


def _identities(source: Source) -> list[tuple[str, str]]:
    try:
        return [photo.identity() for photo in dict.fromkeys(source.photographs())]
    except OSError as error:
        if isinstance(error, NoPicturesError):
            raise
        raise ConfigError(
            f"A photograph of {source.place} cannot be read ({error}). Put it back, or give "
            "--without-sources."
        ) from error


@torch.no_grad()
def fit_pooling(encoder: Encoder, views: list[Tensor]) -> Tensor:
    """Fit an encoder's pooling: scales of the statistics, then principal directions of the photographs.

    The directions are turned until all hold like variance. Distances stay, and a probe that standardises its
    columns, as most do, leaves the blocks' weights as they are.

    With fewer photographs than dimensions of the embedding, the rest are random directions at right angles
    to the principal ones, so that nothing that other photographs show is lost on purpose.

    Returns:
        The views' embeddings ``(M, D)``.

    Raises:
        ConfigError: fewer than two views, or a pooling that cannot be fitted.
    """
    if len(views) < 2:
        raise ConfigError(f"Pooling is fitted on two photographs or more, not on {len(views)}.")
    device = next(encoder.parameters()).device
    statistics = torch.cat([encoder.statistics(view[None].to(device)).cpu() for view in views])
    pooling: Pooling = encoder.pooling
    pooling.fit_scale(statistics)
    standard = pooling.standard(statistics.to(device)).cpu().double()
    directions = principal_directions(standard, pooling.projection.shape[0])
    pooling.projection.copy_(even_rotation(directions))
    embeddings: Tensor = pooling(statistics.to(device))
    return embeddings.cpu()


def principal_directions(centred: Tensor, count: int, seed: int = 0) -> Tensor:
    """``count`` orthonormal rows ``(count, F)``: principal directions of ``(M, F)``, then random ones."""
    length = centred.shape[1]
    if count > length:
        raise ConfigError(f"An embedding of {count} is longer than its {length} statistics.")
    _, spread, right = torch.linalg.svd(centred, full_matrices=False)
    kept = right[spread**2 > _TINY_SHARE * spread[0] ** 2][:count]
    random = np.random.Generator(np.random.PCG64(seed)).standard_normal((count - len(kept), length))
    stacked = torch.cat([kept, torch.from_numpy(random)])
    basis, triangle = torch.linalg.qr(stacked.t())
    basis = basis * triangle.diagonal().sign()  # keep the direction that each row had
    # The sign of a principal direction is arbitrary: its largest entry is made positive.
    signs = basis.gather(0, basis.abs().argmax(0, keepdim=True)).sign()
    directions: Tensor = (basis * signs).t().float()
    return directions


def even_rotation(directions: Tensor, seed: int = 0) -> Tensor:
    """The same subspace by directions of like variance: rows ``(D, F)`` turned by a random rotation.

    Distances stay. Principal directions hold ever less variance, and a probe that standardises its columns,
    as most do, would blow the last ones up to the size of the first.
    """
    random = np.random.Generator(np.random.PCG64(seed)).standard_normal((len(directions), len(directions)))
    basis, triangle = torch.linalg.qr(torch.from_numpy(random))
    turned: Tensor = (basis * triangle.diagonal().sign()) @ directions.double()
    return turned.float()
