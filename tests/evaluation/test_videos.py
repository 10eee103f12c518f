"""Videos: any source behind one door, scored against real frames; blinded rating and its files."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from conftest import disc_picture
from retina_fm.cli.main import main
from retina_fm.errors import ConfigError, ManifestError
from retina_fm.evaluation.contenders import make_contender
from retina_fm.evaluation.protocols.video import score_videos, video_figures
from retina_fm.evaluation.ratings import assess, read_ratings, write_sheet
from retina_fm.evaluation.running import evaluate
from retina_fm.evaluation.suite import read_suite
from retina_fm.evaluation.video_sources import VideoSource, from_folder, read_video, twelve
from retina_fm.training.pairs.table import Frame, PairSequence, read_pairs, write_pairs

PHASES = ("arterial",) * 4 + ("venous",) * 4 + ("late",) * 4


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three photos with twelve frames each, of two patients."""
    folder = tmp_path_factory.mktemp("pairs")
    sequences = []
    for number in range(3):
        photo = disc_picture(number, 96)
        Image.fromarray(photo).save(folder / f"photo{number}.png")
        frames = []
        for t, phase in enumerate(PHASES):
            path = folder / f"{number}-{t:02d}.png"
            Image.fromarray((photo[..., 1] * (0.3 + 0.05 * t)).astype(np.uint8)).save(path)
            frames.append(Frame(path, phase, float(t)))
        sequences.append(
            PairSequence(f"s{number}", folder / f"photo{number}.png", tuple(frames), f"p{number // 2}")
        )
    write_pairs(folder / "pairs.csv", sequences)
    return folder


def true_frames(path: Path) -> np.ndarray:
    number = path.stem[-1]
    return np.stack([np.asarray(Image.open(path.parent / f"{number}-{t:02d}.png")) for t in range(12)])


def from_function(name: str, function: Callable[[Path], np.ndarray]) -> VideoSource:
    return VideoSource(name, {}, lambda photo, _: twelve(function(photo)))


def test_the_truth_scores_best_and_noise_worse(pairs: Path, tmp_path: Path) -> None:
    sequences = read_pairs(pairs / "pairs.csv")
    perfect = score_videos(from_function("truth", true_frames), sequences, size=64, sheet=tmp_path / "s.png")
    assert min(perfect.columns["ssim"]) > 0.99
    noise = np.random.default_rng(0).integers(0, 255, (12, 96, 96), np.uint8)
    bad = score_videos(from_function("noise", lambda _: noise), sequences, size=64)
    figures = video_figures(bad, samples=20)
    assert figures["ssim"]["mean"] < 0.5
    assert figures["psnr"]["mean"] == pytest.approx(figures["psnr_public_code"]["mean"] + 6.0206, abs=1e-3)
    assert figures["psnr"]["bootstrap"]["low"] <= figures["psnr"]["mean"]
    with Image.open(tmp_path / "s.png") as sheet:
        assert sheet.size == (64 * 7, 64 * 6)
        assert sheet.info["Synthetic"] == "true"
        real, made = (np.asarray(sheet)[top : top + 64, 64:128] for top in (0, 64))
        assert made[52:, 3:30].max() > 100 > real[52:, 3:6].max()  # the mark lies in the corner


def test_a_folder_of_another_method_is_scored_by_the_command(pairs: Path, tmp_path: Path) -> None:
    videos = tmp_path / "seg2vid"
    for number in range(3):
        frames = true_frames(pairs / f"photo{number}.png")
        if number == 0:
            images = [Image.fromarray(f) for f in frames]
            videos.mkdir(exist_ok=True)
            images[0].save(videos / "s0.gif", save_all=True, append_images=images[1:])
        elif number == 1:
            np.save(videos / "s1.npy", frames)
        else:
            (videos / "s2").mkdir()
            for t, frame in enumerate(frames):
                Image.fromarray(frame).save(videos / "s2" / f"{t:02d}.png")
    (tmp_path / "suite.toml").write_text(
        "[settings]\nvideo_size = 64\nbootstrap = 10\n"
        '[sets.real]\npairs = "pairs.csv"\n[tasks.real]\nset = "real"\nprotocols = ["video"]\n'
    )
    contenders = [make_contender(f"seg2vid={videos}"), make_contender("fundus2video-tiny")]
    results = evaluate(read_suite(tmp_path / "suite.toml", pairs), contenders, tmp_path / "out")
    (entry,) = results["results"]
    assert entry["figures"]["ssim"]["mean"] > 0.99
    assert "without a generator" in results["skipped"][0]["reason"]
    assert (tmp_path / "out" / "sheets" / "real-seg2vid.png").is_file()
    assert "11.77" in (tmp_path / "out" / "report.md").read_text()
    frame = pairs / "0-05.png"
    before = frame.read_bytes()
    Image.fromarray(disc_picture(9, 96)[..., 1]).save(frame)
    again = evaluate(read_suite(tmp_path / "suite.toml", pairs), contenders, tmp_path / "out")
    frame.write_bytes(before)
    assert again["results"][0]["figures"]["ssim"]["mean"] < entry["figures"]["ssim"]["mean"]


def test_videos_that_are_not_there_or_are_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no folder"):
        from_folder("seg2vid", tmp_path / "none")
    with pytest.raises(ConfigError, match=r"neither a folder of that name nor s1\.gif"):
        read_video(tmp_path, "s1")
    (tmp_path / "s1").mkdir()
    with pytest.raises(ConfigError, match="holds no frames"):
        read_video(tmp_path, "s1")


def test_any_number_of_frames_becomes_twelve() -> None:
    assert twelve(np.zeros((12, 4, 4), np.uint8)).shape == (12, 4, 4)
    assert twelve(np.arange(24, dtype=np.uint8)[:, None, None])[:, 0, 0].tolist()[::11] == [0, 23]
    assert twelve(np.full((5, 4, 4, 3), 0.5)).max() == 128
    for wrong, message in ((np.zeros((4, 4)), "shape"), (np.full((3, 4, 4), 7.0), r"\[0, 1\]")):
        with pytest.raises(ConfigError, match=message):
            twelve(wrong)


def items(count: int = 3) -> dict:
    photo, frames = disc_picture(0, 32), np.zeros((12, 32, 32), np.uint8)
    return {(method, f"s{n}"): (photo, frames, frames) for n in range(count) for method in ("ours", "other")}


def coded(key: Path) -> dict[str, Any]:
    """Items of a key by code, without its checksum."""
    return {code: item for code, item in json.loads(key.read_text()).items() if code != "checksum"}


def test_the_sheet_is_blind_self_contained_and_has_a_key(tmp_path: Path) -> None:
    page, key = write_sheet(items(), tmp_path)
    text, known = page.read_text(), coded(key)
    assert len(known) == 6
    assert {k["method"] for k in known.values()} == {"ours", "other"}
    assert "ours" not in re.sub(r'base64,[^"]*', "", text).replace("yours", "")
    assert "http" not in re.sub(r'base64,[^"]*', "", text)
    assert all(f'name="{code}"' in text for code in known)
    assert write_sheet(items(), tmp_path / "again")[0].read_bytes() == page.read_bytes()
    with pytest.raises(ManifestError, match="nothing to rate"):
        write_sheet({}, tmp_path)


def test_raters_files_give_means_and_kappa(tmp_path: Path) -> None:
    _, key = write_sheet(items(20), tmp_path)
    random = np.random.default_rng(0)
    codes = list(coded(key))
    first = random.integers(1, 5, len(codes))
    for name, scores in (("A", first), ("B", np.clip(first + random.integers(0, 2, len(codes)), 1, 5))):
        lines = "".join(f"{c},{s}\n" for c, s in zip(codes, scores, strict=True))
        (tmp_path / f"ratings-{name}.csv").write_text("item,score\n" + lines)
    said = assess([tmp_path / "ratings-A.csv", tmp_path / "ratings-B.csv"], key)
    assert said["means"]["ours"]["A"]["items"] == 20
    kappa = said["kappa"]["A, B"]["quadratic"]
    assert 0.5 < kappa["kappa"] < 1
    assert kappa["low"] < kappa["kappa"] < kappa["high"]
    assert kappa["p_value"] < 0.001


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("code,score\n1,1\n", "needs the columns"),
        ("item,score\n1,1\n1,2\n", "rates item 1 twice"),
        ("item,score\n1,6\n", "score '6'; use 1 to 5"),
    ],
)
def test_raters_files_that_make_no_sense_are_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "r.csv").write_text(text)
    with pytest.raises(ManifestError, match=message):
        read_ratings(tmp_path / "r.csv")


def test_a_file_of_another_sheet_is_refused(tmp_path: Path) -> None:
    _, key = write_sheet(items(), tmp_path)
    (tmp_path / "r.csv").write_text("item,score\n1,1\n")
    with pytest.raises(ManifestError, match="another sheet"):
        assess([tmp_path / "r.csv"], key)


def test_the_command_writes_a_sheet(pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    videos = tmp_path / "other"
    videos.mkdir()
    for number in range(3):
        np.save(videos / f"s{number}.npy", true_frames(pairs / f"photo{number}.png"))
    arguments = ["ratings", "sheet", "--pairs", str(pairs / "pairs.csv"), "--videos", f"other={videos}"]
    assert main([*arguments, "--count", "2", "--out", str(tmp_path / "sheet")]) == 0
    assert "2 items to rate" in capsys.readouterr().out
