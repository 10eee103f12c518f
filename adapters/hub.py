"""Adapters on the hub: pushed with their licence, pulled at a revision."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from retina_fm.adapters.factory import load
from retina_fm.adapters.photo_estimators import FundusClassifier, FundusRegressor
from retina_fm.adapters.saving import MANIFEST, TENSORS, card_of, read_manifest
from retina_fm.adapters.segmenter import FundusSegmenter
from retina_fm.errors import OutputError
from retina_fm.models.places import HUB_PREFIX


def push(
    folder: str | Path,
    repository: str,
    *,
    revision: str | None = None,
    private: bool = True,
    token: str | None = None,
) -> str:
    """Upload a saved adapter with a card that states its licence and encoders.

    Args:
        folder: as ``estimator.save`` wrote it.
        repository: ``OWNER/NAME``, made if it is not there.
        revision: branch; the main one without it.
        private: of a repository that is made; an adapter learnt from patients' photographs starts private.
        token: of the hub; the one that is logged in without it.

    Returns:
        The commit that was made: what ``pull(..., revision=)`` takes.

    Raises:
        ConfigError: the folder is no adapter.
        OutputError: the hub refuses.
    """
    from huggingface_hub import HfApi

    source = Path(folder)
    manifest = read_manifest(source)
    card = source / "README.md"
    if not card.exists():
        card.write_text(card_of(manifest), encoding="utf-8")
    client = HfApi(token=token)
    try:
        client.create_repo(repository, private=private, exist_ok=True)
        commit = client.upload_folder(
            repo_id=repository,
            folder_path=source,
            revision=revision,
            allow_patterns=[MANIFEST, TENSORS, "README.md"],
            commit_message=f"{manifest['task']} adapter",
        )
    except Exception as error:  # every release of the hub's client has another transport and its errors
        short = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise OutputError(
            f"{repository}: the hub refused ({short}). Check the name, the connection "
            "and the token (huggingface-cli login)."
        ) from None
    return str(commit.oid)


def pull(
    repository: str,
    *,
    revision: str | None = None,
    model: Any = None,
    fuse_with: Any = None,
    device: str | None = None,
    dtype: str | None = None,
) -> FundusClassifier | FundusRegressor | FundusSegmenter:
    """A fitted estimator from the hub, or from its cache.

    Args:
        repository: ``OWNER/NAME``, with or without ``hf-hub:``.
        revision: commit, tag or branch.
        model: see :func:`retina_fm.adapters.load`.
        fuse_with: see :func:`retina_fm.adapters.load`.
        device: see :func:`retina_fm.adapters.load`.
        dtype: see :func:`retina_fm.adapters.load`.
    """
    name = repository if repository.startswith(HUB_PREFIX) else HUB_PREFIX + repository
    return load(name, revision=revision, model=model, fuse_with=fuse_with, device=device, dtype=dtype)
