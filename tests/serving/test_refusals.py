"""What is refused, and with which status; and that the server goes on."""

from __future__ import annotations

import io
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from served import Served, dies, serving

from retina_fm.serving.engine import EMBED, Engine
from retina_fm.serving.limits import Limits

TOKEN = "0123456789abcdef"


def picture(width: int, height: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), (150, 80, 40)).save(buffer, "PNG")
    return buffer.getvalue()


def test_a_body_that_says_that_it_is_too_large_is_not_read(served: Served) -> None:
    connection = served.connect()
    connection.putrequest("POST", "/v1/encode")
    connection.putheader("Content-Length", str(10**12))
    connection.endheaders()
    reply = connection.getresponse()
    assert reply.status == 413 and b"body_too_large" in reply.read()
    connection.close()


def test_a_body_that_does_not_say_is_counted(served: Served) -> None:
    reply = served.post("/v1/encode", iter([b"x" * 50_000] * 5))
    assert reply.status == 413 and reply.json["error"] == "body_too_large"


def test_a_bomb_is_not_decoded(served: Served) -> None:
    reply = served.post("/v1/encode", picture(161, 160))
    assert reply.status == 413 and reply.json["error"] == "too_many_pixels"
    data = bytearray(picture(100, 100))
    head = b"IHDR" + (60_000).to_bytes(4, "big") * 2 + data[24:29]  # it promises 3.6 thousand million pixels
    data[12:33] = head + zlib.crc32(head).to_bytes(4, "big")
    for path in ("/v1/encode", "/v1/report", "/v1/predict"):
        assert served.post(path, bytes(data)).status == 413


def test_a_slow_client_is_not_waited_for(served: Served) -> None:
    with socket.create_connection(("127.0.0.1", served.port), 10) as slow:
        slow.sendall(b"POST /v1/encode HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\nabc")
        began = time.monotonic()
        assert b" 408 " in slow.recv(100) and 0.3 < time.monotonic() - began < 5


def test_a_client_that_says_nothing_is_left(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    from retina_fm.serving import patience

    monkeypatch.setattr(patience, "HEAD_SECONDS", 0.2)
    with socket.create_connection(("127.0.0.1", served.port), 10) as silent:
        silent.sendall(b"POST /v1/enc")
        assert silent.recv(100) == b""


@pytest.mark.parametrize(
    "first",
    [
        b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"POST /v1/pictures/0 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9999\r\n\r\n",
    ],
    ids=["head after an answer", "body after a refusal"],
)
def test_a_client_that_sends_byte_by_byte_after_an_answer_is_left(
    served: Served, monkeypatch: pytest.MonkeyPatch, first: bytes
) -> None:
    from retina_fm.serving import patience

    monkeypatch.setattr(patience, "HEAD_SECONDS", 0.3)
    with socket.create_connection(("127.0.0.1", served.port), 0.05) as slow:
        slow.sendall(first)
        until = time.monotonic() + 4
        with pytest.raises(OSError, match=r"reset|Broken pipe|aborted"):
            while time.monotonic() < until:
                slow.sendall(b"G")
                with suppress(TimeoutError):
                    slow.recv(1000)


def test_a_client_that_takes_no_answer_is_left(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    from retina_fm.serving import patience

    monkeypatch.setattr(patience, "TAKE_SECONDS", 0.3)
    ask = b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with socket.create_connection(("127.0.0.1", served.port), 0.2) as greedy:
        until = time.monotonic() + 15
        with pytest.raises(OSError, match=r"reset|Broken pipe|aborted"):
            while time.monotonic() < until:
                with suppress(TimeoutError):
                    greedy.sendall(ask * 50)


def test_a_body_in_chunks_takes_the_room_of_the_largest_whatever_length_it_declares(engine: Engine) -> None:
    limits = Limits(body_bytes=200_000, in_flight_bytes=300_000, body_seconds=2.0)
    head = (
        b"POST /v1/encode HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n"
    )
    with (
        serving(engine, limits=limits) as small,
        socket.create_connection(("127.0.0.1", small.port), 5) as one,
        socket.create_connection(("127.0.0.1", small.port), 5) as other,
    ):
        one.sendall(head + b"5\r\nhello\r\n")
        until = time.monotonic() + 2
        while b"in_flight 1.0" not in small.get("/metrics").body and time.monotonic() < until:
            time.sleep(0.02)
        other.sendall(head)
        assert b"503" in other.recv(100)
        one.sendall(b"0\r\n\r\n")
        assert b"422" in one.recv(100)


@pytest.mark.parametrize(
    "body", [b"no picture at all", b"\x89PNG\r\n\x1a\n" + b"\0" * 99, picture(90, 90)[:-60], b""]
)
def test_what_is_no_picture_is_said_to_be_none(served: Served, body: bytes) -> None:
    for path in ("/v1/encode", "/v1/predict", "/v1/measure"):
        reply = served.post(path, body)
        assert reply.status == 422 and reply.json["error"] in ("no_picture", "no_photo")


@pytest.mark.parametrize(
    "path",
    [
        *(
            f"/v1/search?{one}"
            for one in ("k=0", "k=6", "k=x", "space=none", "where=nothing%3D1", "where=%3D%3D")
        ),
        "/v1/measure?eye=both",
    ],
)
def test_parameters_that_make_no_sense_are_refused(served: Served, photo: bytes, path: str) -> None:
    reply = served.post(path, photo)
    assert reply.status == 422 and reply.json["error"] == "bad_parameter"


def test_without_a_token_only_local_names_are_served(served: Served) -> None:
    assert served.get("/v1/about", Host="localhost").status == 200
    reply = served.get("/", Host="photos.example.org")
    assert reply.status == 400 and reply.json["error"] == "not_this_host"


def test_paths_and_methods_that_are_not_there(served: Served) -> None:
    assert served.get("/v1/none").json["error"] == "no_such_path"
    assert served.get("/v1/encode").status == 405
    assert served.get("/docs").status == 404  # it would load scripts from elsewhere


def test_a_process_that_dies_takes_one_photo_with_it(
    served: Served, photo: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    from retina_fm.serving import workers

    monkeypatch.setattr(workers, "view_within", dies)
    reply = served.post("/v1/encode", photo)
    assert reply.status == 422 and "died" in reply.json["message"]
    monkeypatch.undo()
    assert served.post("/v1/encode", photo).status == 200


@pytest.fixture
def held(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """A model that waits to be let go."""
    go, run = threading.Event(), Engine.run

    def waiting(self: Engine, kind: str, items: list[Any]) -> Any:
        assert go.wait(20)
        return run(self, kind, items)

    monkeypatch.setattr(Engine, "run", waiting)
    yield go
    go.set()


def until(what: Any) -> None:
    end = time.monotonic() + 10
    while not what():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_full_server_says_so_and_answers_those_inside_together(
    engine: Engine, photo: bytes, held: threading.Event
) -> None:
    with serving(engine, limits=Limits(in_flight=4)) as served, ThreadPoolExecutor(4) as clients:
        inside = [clients.submit(served.post, "/v1/encode", photo) for _ in range(4)]
        until(lambda: b"retina_fm_in_flight 4.0" in served.get("/metrics").body)
        until(lambda: b"retina_fm_waiting 3.0" in served.get("/metrics").body)
        reply = served.post("/v1/encode", photo)
        assert (reply.status, reply.json["error"]) == (503, "full") and int(reply.headers["retry-after"]) >= 1
        held.set()
        assert {one.result(20).status for one in inside} == {200}
        text = served.get("/metrics").body.decode()
        assert f'retina_fm_batch_photos_bucket{{kind="{EMBED}",le="2.0"}} 1.0' in text  # one, then three
        assert f'retina_fm_batch_photos_sum{{kind="{EMBED}"}} 4.0' in text
        assert served.post("/v1/encode", photo).status == 200


def test_an_answer_that_takes_too_long_is_given_up(
    engine: Engine, photo: bytes, held: threading.Event
) -> None:
    with serving(engine, limits=Limits(answer_seconds=1.0)) as served:
        reply = served.post("/v1/encode", photo)
        assert (reply.status, reply.json["error"]) == (503, "too_long")
        assert int(reply.headers["retry-after"]) >= 1
        held.set()
        until(lambda: b"retina_fm_waiting 0.0" in served.get("/metrics").body)
        assert b"retina_fm_in_flight 0.0" in served.get("/metrics").body
        assert served.get("/readyz").status == 200


def test_a_token_is_needed_and_what_is_under_way_is_answered_at_the_end(
    engine: Engine, photo: bytes, held: threading.Event
) -> None:
    right = {"Authorization": f"Bearer {TOKEN}"}
    with serving(engine, token=TOKEN) as served, ThreadPoolExecutor(1) as client:
        for header in ({}, {"Authorization": f"Bearer {TOKEN}0"}, {"Authorization": f"Basic {TOKEN}"}):
            for path in ("/v1/encode", "/v1/report", "/v1/pictures/0", "/metrics", "/v1/about", "/nothing"):
                reply = served.post(path, photo, **header)
                assert reply.status == 401 and reply.headers["www-authenticate"] == "Bearer", path
        assert served.get("/healthz").status == served.get("/readyz").status == served.get("/").status == 200
        assert served.get("/v1/about", **right, Host="photos.example.org").status == 200
        under_way = client.submit(served.post, "/v1/encode", photo, **right)
        until(lambda: b"retina_fm_in_flight 1.0" in served.get("/metrics", **right).body)
        served.server.should_exit = True
        threading.Timer(0.3, held.set).start()
        assert under_way.result(20).status == 200


@pytest.mark.slow
def test_the_command_serves_until_it_is_told_to_stop(clinic: Path, photo: bytes) -> None:
    command = [
        sys.executable, "-m", "retina_fm", "serve", "--index", str(clinic / "store"), "--port", "0"
    ]  # fmt: skip
    root = Path(__file__).resolve().parents[2]
    ran = subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(root)}
    )
    assert ran.stderr is not None
    try:
        address = next(line for line in ran.stderr if line.startswith("http://")).split()[0]
        served = Served(None, int(address.rstrip("/").rpartition(":")[2]))
        assert served.post("/v1/encode", photo).status == 200
        ran.send_signal(signal.SIGTERM)
        assert ran.wait(30) == 0
    finally:
        ran.kill()
        ran.communicate()


@pytest.mark.slow
def test_made_up_requests_find_no_failure(served: Served, tmp_path: Path) -> None:
    pytest.importorskip("schemathesis")
    command = [
        sys.executable, "-m", "schemathesis.cli", "run", f"http://127.0.0.1:{served.port}/openapi.json",
        "--checks", "not_a_server_error,status_code_conformance",
        "--checks", "content_type_conformance,response_schema_conformance",
        "--max-examples", "25", "--mode", "all", "--generation-deterministic", "--no-color",
    ]  # fmt: skip
    ran = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert ran.returncode == 0, ran.stdout + ran.stderr
