"""Encoders as folders with a card, and on the hub: saved, pushed, loaded again by ``load``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from retina_fm._io.files import write_bytes
from retina_fm.errors import ConfigError, OutputError
from retina_fm.models.contract import ModelCard
from retina_fm.models.folder import (
    CARD,
    CONFIG,
    SIGNATURE,
    WHITENING,
    WeightsConfig,
    fill_folder,
    read_config,
    whole_weights,
)

_IDENTIFIERS = {
    "Apache-2.0": "apache-2.0",
    "BSD-3-Clause": "bsd-3-clause",
    "CC-BY-4.0": "cc-by-4.0",
    "CC-BY-NC-4.0": "cc-by-nc-4.0",
    "CC-BY-NC-SA-4.0": "cc-by-nc-sa-4.0",
    "CC-BY-SA-4.0": "cc-by-sa-4.0",
    "CC0-1.0": "cc0-1.0",
    "MIT": "mit",
}
"""SPDX names that the hub has identifiers for, as it writes them."""


def save_encoder(
    folder: str | Path,
    encoder: Any,
    kind: str,
    network: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    *,
    name: str | None = None,
    licence: str | None = None,
    training_data: str | None = None,
) -> WeightsConfig:
    """Write an encoder, fine-tuned or not, as a weights folder with a card; ``load(folder)`` reads it.

    Args:
        folder: to write.
        encoder: whose transform and card are kept.
        kind: which code builds it again.
        network: its arguments.
        tensors: what it learnt.
        name: of the model; the folder's without it.
        licence: of the weights; the encoder's own without it. A restricted one stays.
        training_data: what the weights saw since; added to the encoder's own.

    Raises:
        ConfigError: a licence that claims more than the encoder's own allows.
        OutputError: the folder cannot be written.
    """
    target = Path(folder)
    before: ModelCard = encoder.card
    if licence is not None and before.restricted and licence != before.licence:
        raise ConfigError(
            f"{encoder.name} has the licence {before.licence}; weights made from it cannot be {licence}. "
            "Leave licence out."
        )
    saw = before.training_data + (f"; then {training_data}" if training_data else "")
    card = before.model_copy(update={"licence": licence or before.licence, "training_data": saw})
    config = WeightsConfig(
        name=name or target.resolve().name,
        kind=kind,
        transform=encoder.transform,
        card=card,
        network=network,
        provenance={"made_from": encoder.name, "weights_sha256": encoder.weights_sha256},
    )
    try:
        with whole_weights(target) as scratch:
            written = fill_folder(scratch, config, tensors)
            (scratch / CARD).write_bytes(card_text(written).encode())
    except OSError as error:
        raise OutputError(f"{target} cannot be written ({error}). Choose another folder.") from error
    return written


def push(
    folder: str | Path,
    repository: str,
    *,
    revision: str | None = None,
    private: bool = True,
    token: str | None = None,
) -> str:
    """Upload a weights folder; ``load("hf-hub:OWNER/NAME", revision=...)`` reads it again.

    Args:
        folder: a weights folder; a card is written into it where it has none.
        repository: ``OWNER/NAME``, made if it is not there.
        revision: branch; the main one without it.
        private: of a repository that is made.
        token: of the hub; the one that is logged in without it.

    Returns:
        The commit that was made.

    Raises:
        ConfigError: the folder holds no weights.
        OutputError: the hub refuses.
    """
    from huggingface_hub import HfApi

    source = Path(folder)
    config = read_config(source)
    if not (source / CARD).exists():
        write_bytes(source / CARD, card_text(config).encode())
    client = HfApi(token=token)
    try:
        client.create_repo(repository, private=private, exist_ok=True)
        commit = client.upload_folder(
            repo_id=repository,
            folder_path=source,
            revision=revision,
            allow_patterns=[CONFIG, *config.files, WHITENING, SIGNATURE, CARD],
            commit_message=f"{config.name}, {config.sha256[:12]}",
        )
    except Exception as error:  # every release of the hub's client has another transport and its errors
        short = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise OutputError(
            f"{repository}: the hub refused ({short}). Check the name, the connection and the token."
        ) from None
    return str(commit.oid)


def card_text(config: WeightsConfig) -> str:
    """A model card: what the hub reads at the top, and what a person should know below."""
    card = config.card
    lines = [f"# {config.name}", ""]
    lines += [f"**Licence.** {card.licence}.", "", f"**Trained on.** {card.training_data}.", ""]
    lines += [f"**Embedding.** {card.pooling}.", "", f"**Use.** {card.intended_use}", ""]
    if config.kind.startswith("fundus2video"):
        lines += ["**Privacy.** `encoder.signature` reads a pattern of vessels that recognises a person.", ""]
    if card.citation:
        lines += [f"**Cite.** {card.citation}.", ""]
    lines += ["```python", "import retina_fm", "", 'encoder = retina_fm.load("FOLDER or hf-hub:OWNER/NAME")']
    lines += ['embeddings = retina_fm.encode("photos/", encoder)', "```", ""]
    lines += [f"SHA-256 of the model: `{config.sha256}`."]
    head = front_matter(card.licence, "image-feature-extraction")
    return head + "\n".join(lines).replace("..", ".") + "\n"


def front_matter(licence: str, task: str) -> str:
    """The YAML at the top of a card, as the hub validates it: identifiers, and names without blanks."""
    lines = [f"license: {_IDENTIFIERS.get(licence, 'other')}"]
    if licence not in _IDENTIFIERS:
        lines.append(f"license_name: {identifier(licence)}")
    lines += ["library_name: retina-fm", f"pipeline_tag: {task}", "tags:", "- medical", "- ophthalmology"]
    return "\n".join(["---", *lines, "- retina", "---", "", ""])


def identifier(licence: str) -> str:
    """A licence's name as the hub takes it: lower case, digits, dots and hyphens."""
    return re.sub(r"[^a-z0-9.]+", "-", licence.lower()).strip("-.") or "unknown"
