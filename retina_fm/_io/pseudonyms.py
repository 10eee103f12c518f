"""Patients' ids behind a keyed hash: the same person has the same pseudonym wherever the same key is used."""

from __future__ import annotations

import hashlib
import hmac
from pathlib import Path
from typing import Any

from retina_fm._io.persons import is_nobody, spelling
from retina_fm.errors import ConfigError

LEAST_BYTES = 16
"""Of a key; a shorter one can be guessed."""
_LARGEST = 1 << 20
_DIGITS = 32  # 128 bits: no two persons of any archive share them, and they fit under a picture


class Pseudonyms:
    """HMAC-SHA256 of patients' ids, by a secret key.

    Whoever has the key can try ids and so learn who is who; without it nobody can.

    Attributes:
        fingerprint: of the key, 16 hex digits: tells two keys apart, and nothing of either.
    """

    def __init__(self, key: bytes) -> None:
        if len(key) < LEAST_BYTES:
            raise ConfigError(
                f"The key of pseudonyms has {len(key)} bytes; at least {LEAST_BYTES} are needed. Make one: "
                "head -c 32 /dev/urandom > KEYFILE"
            )
        self._key = key
        self.fingerprint = self._hash("fingerprint of the key")[:16]

    @classmethod
    def read(cls, path: str | Path) -> Pseudonyms:
        """By the bytes of a file, a line feed at its end among them.

        Raises:
            ConfigError: it cannot be read, or is no key.
        """
        try:
            with Path(path).open("rb") as file:
                key = file.read(_LARGEST + 1)
        except OSError as error:
            raise ConfigError(
                f"The key file {path} cannot be read ({error.strerror}). Make one: "
                f"head -c 32 /dev/urandom > {path}"
            ) from None
        if len(key) > _LARGEST:
            raise ConfigError(f"{path} is larger than a key ever is ({_LARGEST} bytes). Name the key file.")
        return cls(key)

    def of(self, patient_id: Any) -> str | None:
        """The pseudonym of a person, the first 32 hex digits of the HMAC; None for nobody.

        Spellings that mean one person in any table (``P-007``, ``p007``) have one pseudonym.
        """
        return None if is_nobody(patient_id) else self._hash(f"patient {spelling(str(patient_id))}")[:_DIGITS]

    def _hash(self, text: str) -> str:
        return hmac.new(self._key, text.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()


def pseudonyms_of(key_file: str | Path | None) -> Pseudonyms | None:
    """Pseudonyms by a key file, or None where ids are to stay as they are."""
    return None if key_file is None else Pseudonyms.read(key_file)
