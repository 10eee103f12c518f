from __future__ import annotations

import io
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from PIL import Image

import retina_fm
from conftest import disc_picture
from retina_fm.encoding.decoding import decoded
from retina_fm.encoding.in_memory import batches
from retina_fm.encoding.precision import choose_device, choose_precision, fastest_precision
from retina_fm.encoding.work import Decoded
from retina_fm.errors import ConfigError, NoPicturesError, PictureError, SkippedPictures, UnknownModelError
from retina_fm.pictures import Transform

TINY = "fundus2video-tiny"


def encode(photos: object, **settings: object) -> np.ndarray:
    return retina_fm.encode(photos, TINY, dtype="float32", **settings)  # type: ignore[arg-type]


def png(picture: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG")
    return buffer.getvalue()


def test_one_photo_gives_a_vector_and_many_a_matrix(photo_folder: Path) -> None:
    one = encode(photo_folder / "eye1.png")
    many = encode(photo_folder)
    assert one.shape == (64,) and many.shape == (11, 64)
    assert one.dtype == many.dtype == np.float32
    assert np.allclose(many[2], one, rtol=1e-4, atol=1e-4)


def test_folders_are_read_below_and_in_natural_order(photo_folder: Path) -> None:
    by_name = [encode(photo_folder / "deep" / f"eye{n}.png") for n in (10, 11)]
    by_name += [encode(photo_folder / f"eye{n}.png") for n in range(1, 10)]
    assert np.allclose(encode(photo_folder), np.stack(by_name), rtol=1e-4, atol=1e-4)


def test_every_form_of_many_gives_the_same(photo_folder: Path) -> None:
    paths = [photo_folder / f"eye{n}.png" for n in range(1, 6)]
    expected = encode(paths)
    pictures = np.stack([disc_picture(n) for n in range(1, 6)])
    forms = [
        str(photo_folder / "eye[1-5].png"),
        (path for path in paths),
        pictures,
        torch.from_numpy(pictures).permute(0, 3, 1, 2),
        [{"bytes": png(picture), "path": None} for picture in pictures],
        [Image.fromarray(picture) for picture in pictures],
        [open(path, "rb") for path in paths],  # noqa: PTH123, SIM115
    ]
    for form in forms:
        assert np.allclose(encode(form), expected, rtol=1e-4, atol=1e-4), type(form)
    for handle in forms[-1]:
        handle.close()


def test_a_generator_is_drawn_from_only_as_far_as_needed(photo_folder: Path) -> None:
    drawn = []

    def photos() -> Iterator[np.ndarray]:
        for number in range(60):
            drawn.append(number)
            yield disc_picture(number, 64)

    stream = decoded(enumerate(photos()), Transform(size=64), workers=0, ahead=5)
    assert next(stream).position == 0
    assert len(drawn) <= 7
    stream.close()


def test_worker_processes_give_the_same_views_in_the_same_order(photo_folder: Path) -> None:
    paths = [photo_folder / f"eye{n}.png" for n in range(1, 10)]
    here = list(decoded(enumerate(paths), Transform(size=64), workers=0, ahead=4))
    there = list(decoded(enumerate(paths), Transform(size=64), workers=2, ahead=4))
    assert [item.position for item in there] == list(range(9))
    for a, b in zip(here, there, strict=True):
        assert a.view is not None and np.array_equal(a.view, b.view)  # type: ignore[arg-type]
        assert a.geometry == b.geometry


class Deadly(str):
    """A path on which a worker process dies, as a faulty codec would make it."""

    def __reduce__(self) -> tuple[object, tuple[int]]:
        import os

        return os._exit, (1,)


def test_a_photo_that_kills_its_worker_is_an_error_of_its_own(photo_folder: Path) -> None:
    photos = [str(photo_folder / "eye1.png"), Deadly("deadly.png"), str(photo_folder / "eye2.png")]
    found = list(decoded(enumerate(photos), Transform(size=64), workers=1, ahead=8))
    assert [item.error is None for item in found] == [True, False, True]
    assert "process that decoded it died" in str(found[1].error)


@pytest.mark.skipif(os.name != "posix", reason="the watch needs POSIX parents")
def test_a_killed_run_leaves_no_worker_behind() -> None:
    code = (
        "import os, time\n"
        "from retina_fm._io.processes import start_workers\n"
        "print(start_workers(1).submit(os.getpid).result(), flush=True)\n"
        "time.sleep(60)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(retina_fm.__file__).parent.parent)}
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as run:
        assert run.stdout is not None
        worker = int(run.stdout.readline())
        assert psutil.pid_exists(worker)
        run.kill()
    for _ in range(100):
        if not psutil.pid_exists(worker) or psutil.Process(worker).status() == psutil.STATUS_ZOMBIE:
            return
        time.sleep(0.1)
    pytest.fail(f"worker {worker} lives on")


def test_skipping_leaves_the_bad_out_and_says_which(photo_folder: Path) -> None:
    good = photo_folder / "eye1.png"
    bad = photo_folder / "eye2.png"
    bad.write_bytes(bad.read_bytes()[:200])
    with pytest.warns(SkippedPictures, match="eye2") as caught:
        embeddings = encode([good, bad, good], on_error="skip")
    assert embeddings.shape == (2, 64)
    warning = caught[0].message
    assert (
        isinstance(warning, SkippedPictures) and warning.indices == [1] and "truncated" in warning.reasons[0]
    )


def test_without_skipping_the_first_bad_photo_stops(photo_folder: Path) -> None:
    bad = photo_folder / "eye2.png"
    bad.write_bytes(b"")
    with pytest.raises(PictureError, match="eye2"):
        encode(photo_folder)
    with pytest.raises(PictureError, match="eye2"):
        encode(bad, on_error="skip")  # one photo cannot be left out


def test_skipping_everything_gives_an_empty_matrix(photo_folder: Path) -> None:
    with pytest.warns(SkippedPictures):
        assert encode([b"no", b"pictures"], on_error="skip").shape == (0, 64)


def test_batches_hold_the_same_photos_whatever_fails() -> None:
    items = [Decoded(position, None, None, None) for position in (0, 1, 3, 4, 5, 9)]
    assert [[i.position for i in b] for b in batches(iter(items), 4)] == [[0, 1, 3], [4, 5], [9]]


def test_a_loaded_encoder_keeps_its_type(photo_folder: Path) -> None:
    encoder = retina_fm.load(TINY, dtype=torch.bfloat16)
    given = retina_fm.encode(photo_folder, encoder)
    assert encoder.dtype == torch.bfloat16
    assert np.allclose(given, retina_fm.encode(photo_folder, TINY, dtype="bfloat16"), atol=1e-3, rtol=1e-2)


def test_more_black_round_the_photo_changes_next_to_nothing() -> None:
    picture = disc_picture(3, 200)
    wide = np.pad(picture, ((100, 100), (100, 100), (0, 0)))
    tight, loose = encode([picture, wide])
    assert float(tight @ loose / np.linalg.norm(tight) / np.linalg.norm(loose)) > 0.99


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"on_error": "ignore"}, "on_error"),
        ({"device": "tpu9"}, "Device 'tpu9'"),
        ({"device": "cuda:99"}, "cuda:99"),
        ({"workers": -1}, "-1 workers cannot work"),
        ({"batch_size": 0}, "Batches of 0 photos"),
    ],
)
def test_wrong_settings_are_refused(settings: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        encode(disc_picture(), **settings)


def test_wrong_models_photos_and_types_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UnknownModelError):
        retina_fm.encode(disc_picture(), "fundus")
    with pytest.raises(ConfigError, match="float16"):
        retina_fm.encode(disc_picture(), TINY, dtype="float16")
    with pytest.raises(NoPicturesError):
        encode(tmp_path)
    with pytest.raises(PictureError):
        encode(5)


def test_a_model_may_be_a_path(generator_folder: Path, photo_folder: Path) -> None:
    photo, dtype = photo_folder / "eye1.png", "float32"
    embedding = retina_fm.encode(photo, generator_folder, dtype=dtype)
    assert (embedding == retina_fm.encode(photo, str(generator_folder), dtype=dtype)).all()
    assert (embedding == retina_fm.Embedder(generator_folder, dtype=dtype).fit_transform([photo])[0]).all()
    assert len(retina_fm.index([photo], generator_folder, dtype=dtype)) == 1


def test_the_precision_says_why() -> None:
    chosen = fastest_precision(torch.device("cpu"))
    assert chosen.dtype in (torch.float32, torch.bfloat16) and "bfloat16" in chosen.reason + str(chosen)
    assert str(choose_precision("float32", choose_device("cpu"))) == "float32 (as asked for)"
