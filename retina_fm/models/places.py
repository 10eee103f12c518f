"""Where weights are looked for, in order, and what to say when they are nowhere."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from retina_fm import weights
from retina_fm.errors import WeightsNotFoundError
from retina_fm.models.folder import CONFIG

ENVIRONMENT = "RETINA_FM_WEIGHTS"
HUB_PREFIX = "hf-hub:"


class Remembered(str):
    """A model's name that a file said, and no caller: it is looked up on this machine, and never fetched."""

    __slots__ = ()


def only_remembered(name: str) -> str:
    """What to say where a file names the network."""
    return (
        f"A file on this machine names the model {str(name)!r:.120}, which is not in the hub's cache; "
        "nothing is fetched because a file says so. Name it yourself (model=), or give model=FOLDER."
    )


def find_weights(name: str, remedy: str) -> Path:
    """The first folder that holds the weights of a registered model.

    ``$RETINA_FM_WEIGHTS/NAME`` comes first, then ``weights/NAME`` of the installation.

    Raises:
        WeightsNotFoundError: neither is there; the message lists both, and the remedy.
    """
    looked = []
    base = os.environ.get(ENVIRONMENT)
    if base:
        folder = Path(base) / name
        if (folder / CONFIG).is_file():
            return folder
        looked.append(f"{folder} (${ENVIRONMENT})")
    else:
        looked.append(f"${ENVIRONMENT} (not set)")
    for folder in installed(name):
        if (folder / CONFIG).is_file():
            return folder
        looked.append(f"{folder} (installation)")
    raise WeightsNotFoundError(f"No weights for {name!r}. Looked in: {'; '.join(looked)}. {remedy}")


def installed(name: str) -> list[Path]:
    """Folders of the installation, or of the checkout, that may hold a model's weights."""
    return [Path(root) / name for root in weights.__path__]


def fetch_from_hub(name: str, revision: str | None) -> Path:
    """The folder of ``hf-hub:OWNER/NAME`` from the hub's cache, or from the hub unless it is offline.

    Args:
        name: with the prefix; ``hf-hub:owner/name@revision`` pins one.
        revision: commit, tag or branch; the cache's or the hub's newest without it.

    Raises:
        WeightsNotFoundError: the repository or revision is not to be had.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    repository, _, pinned = name.removeprefix(HUB_PREFIX).partition("@")
    settings: dict[str, Any] = {
        "revision": revision or pinned or None,
        "allow_patterns": ["*.json", "*.safetensors"],
    }
    try:
        return Path(snapshot_download(repository, local_files_only=True, **settings))
    except HFValidationError as error:
        raise WeightsNotFoundError(f"{name!r} is no hub name: {error}. Write hf-hub:OWNER/NAME.") from None
    except (OSError, ValueError):
        if isinstance(name, Remembered):
            raise WeightsNotFoundError(only_remembered(name)) from None
    try:
        return Path(snapshot_download(repository, **settings))
    except (OSError, ValueError, HfHubHTTPError) as error:
        short = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise WeightsNotFoundError(
            f"{name!r} is neither in the hub's cache nor to be fetched ({short}). Check the name, the "
            "connection, HF_HUB_OFFLINE, and for gated repositories HF_TOKEN."
        ) from None


def hub_answers(seconds: float = 5.0) -> bool:
    """Whether the hub can be reached from here; behind a proxy, which its client knows, it is taken to be.

    The client itself tries again for one to two minutes before it says so.
    """
    import socket
    import threading
    from urllib.parse import urlsplit
    from urllib.request import getproxies

    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE or getproxies():
        return True  # offline it asks nobody, and says so at once
    place = urlsplit(constants.ENDPOINT)
    found: list[bool] = []

    def ask() -> None:
        try:
            port = place.port or (80 if place.scheme == "http" else 443)
            socket.create_connection((place.hostname or "", port), timeout=seconds).close()
            found.append(True)
        except OSError:
            found.append(False)

    asking = threading.Thread(target=ask, daemon=True)  # a name server that is silent keeps to no limit
    asking.start()
    asking.join(seconds)
    return bool(found and found[0])
