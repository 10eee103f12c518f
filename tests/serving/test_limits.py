"""Room for photos, and who may ask for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from retina_fm.cli.main import main
from retina_fm.cli.serve import _LIMITS
from retina_fm.errors import ConfigError
from retina_fm.serving.limits import Admission, FullError, Limits
from retina_fm.serving.tokens import VARIABLE, is_local_name, is_right, read_token, refuse_open_door

TOKEN = "0123456789abcdef"


def test_a_full_server_takes_nothing_in_and_says_when_to_come_back() -> None:
    admission = Admission(Limits(in_flight=2, in_flight_bytes=100))
    with admission.admitted(60):
        with pytest.raises(FullError), admission.admitted(41):
            pass
        with admission.admitted(40):
            assert (admission.inside, admission.held) == (2, 100)
            with pytest.raises(FullError) as told, admission.admitted(0):
                pass
            assert 1 <= told.value.retry_after <= 60
    assert (admission.inside, admission.held) == (0, 0)


def test_room_is_given_back_where_the_work_fails() -> None:
    admission = Admission(Limits())
    with pytest.raises(ValueError, match="no"), admission.admitted(5):
        raise ValueError("no")
    assert (admission.inside, admission.held) == (0, 0)


def test_the_commands_limits_are_those_of_the_settings() -> None:
    assert {name: default for name, (default, _) in _LIMITS.items()} == Limits().model_dump()


@pytest.mark.parametrize("field", sorted(Limits.model_fields))
def test_a_limit_is_above_zero(field: str) -> None:
    with pytest.raises(ConfigError, match=field):
        Limits(**{field: 0})


def test_a_token_comes_from_a_file_or_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    assert read_token() is None
    monkeypatch.setenv(VARIABLE, f" {TOKEN}e\n")
    assert read_token() == f"{TOKEN}e"
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    assert read_token(tmp_path / "token") == TOKEN
    for text in ("short", "a token with many blanks", "0123456789abcdé0", ""):
        (tmp_path / "token").write_text(text)
        with pytest.raises(ConfigError, match="at least 16"):
            read_token(tmp_path / "token")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_token(tmp_path / "none")


def test_only_the_right_token_of_a_bearer_is_right() -> None:
    assert is_right(TOKEN, f"Bearer {TOKEN}") and is_right(TOKEN, f"bearer  {TOKEN} ")
    for header in (
        None,
        "",
        "Bearer",
        TOKEN,
        f"Basic {TOKEN}",
        f"Bearer {TOKEN}0",
        f"Bearer {TOKEN[:-1]}",
        "Bearer é",
    ):
        assert not is_right(TOKEN, header)


def test_a_host_that_others_reach_needs_a_token(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    for host in ("127.0.0.1", "127.8.8.8", "::1", "localhost"):
        refuse_open_door(host, None)
    for host in ("0.0.0.0", "::", "10.0.0.1", "example.org", ""):
        refuse_open_door(host, TOKEN)
        with pytest.raises(ConfigError, match="no token is set"):
            refuse_open_door(host, None)
    assert main(["serve", "--host", "0.0.0.0"]) == 1  # before anything is loaded
    assert "no token is set" in capsys.readouterr().err


def test_local_names_are_told_from_others() -> None:
    assert all(map(is_local_name, ("localhost", "LOCALHOST:8000", "127.0.0.1:1", "[::1]:80", "[::1]")))
    assert not any(
        map(is_local_name, ("", "localhost.example.org", "evil:8000", "10.0.0.1", "127.0.0.1.nip.io"))
    )
