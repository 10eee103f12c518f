"""Pseudonyms: the same for a person, another for each key, and no key that can be guessed."""

from __future__ import annotations

import hashlib
import hmac
from pathlib import Path

import pytest

from retina_fm._io.pseudonyms import Pseudonyms
from retina_fm.errors import ConfigError

KEY = bytes(range(32))


def test_a_pseudonym_is_a_keyed_hash_of_the_person() -> None:
    hidden = Pseudonyms(KEY)
    assert hidden.of("P-007") == hidden.of("p007") == hidden.of("P 7")
    assert hidden.of("P-007") == hmac.new(KEY, b"patient p7", hashlib.sha256).hexdigest()[:32]
    assert hidden.of("1-01") != hidden.of("10-1"), "two persons stay two"
    assert hidden.of("P-007") != Pseudonyms(KEY[::-1]).of("P-007")
    assert hidden.of("unknown") is None and hidden.of(None) is None
    assert hidden.fingerprint != Pseudonyms(KEY[::-1]).fingerprint and len(hidden.fingerprint) == 16


def test_keys_that_are_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="has 6 bytes; at least 16"):
        Pseudonyms(b"secret")
    with pytest.raises(ConfigError, match="cannot be read"):
        Pseudonyms.read(tmp_path / "lost")
    (tmp_path / "photo").write_bytes(b"0" * (1 << 20) + b"1")
    with pytest.raises(ConfigError, match="larger than a key"):
        Pseudonyms.read(tmp_path / "photo")
