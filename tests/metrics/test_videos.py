"""Figures are their definitions; networks come from files whose hash fits."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import linalg

from retina_fm.errors import WeightsError, WeightsNotFoundError
from retina_fm.metrics import videos as metrics


def test_psnr_in_both_conventions():
    target = torch.zeros(1, 2, 4, 4)
    prediction = target + torch.tensor([0.2, 0.5]).view(1, 2, 1, 1)
    found = metrics.psnr(prediction, target)
    usual = np.mean([10 * np.log10(1 / 0.1**2), 10 * np.log10(1 / 0.25**2)])
    assert found["psnr"] == pytest.approx(usual, abs=1e-4)
    assert found["psnr_public_code"] == pytest.approx(usual - 6.0206, abs=1e-3)


def test_the_papers_figure_reads_17_8_in_the_usual_convention():
    error = 10 ** (-11.77 / 20)
    found = metrics.psnr(torch.full((1, 1, 4, 4), error), torch.zeros(1, 1, 4, 4))
    assert found["psnr_public_code"] == pytest.approx(11.77, abs=1e-3)
    assert found["psnr"] == pytest.approx(17.79, abs=1e-2)


def test_ssim_is_1_for_equal_videos_and_less_for_noise():
    generator = torch.Generator().manual_seed(0)
    video = torch.rand(1, 2, 32, 32, generator=generator) * 2 - 1
    noise = torch.rand(1, 2, 32, 32, generator=generator) * 2 - 1
    assert metrics.ssim(video, video) == pytest.approx(1, abs=1e-4)
    assert metrics.ssim(noise, video) < 0.3


def test_frechet_distance_is_its_definition():
    random = np.random.default_rng(0)
    first, second = random.normal(size=(50, 4)), random.normal(0.5, 2.0, size=(60, 4))
    s1, s2 = np.cov(first, rowvar=False), np.cov(second, rowvar=False)
    gap = first.mean(0) - second.mean(0)
    slow = gap @ gap + np.trace(s1 + s2 - 2 * linalg.sqrtm(s1 @ s2).real)
    assert metrics.frechet_distance(first, second) == pytest.approx(slow, rel=1e-6)
    assert metrics.frechet_distance(first, first) == pytest.approx(0, abs=1e-6)


def test_a_missing_file_says_which(tmp_path):
    for load in (metrics.load_lpips, metrics.load_fvd):
        with pytest.raises(WeightsNotFoundError, match=r"absent\.pth"):
            load(tmp_path / "absent.pth")


def test_another_file_is_refused_before_it_is_parsed(tmp_path):
    path = tmp_path / "other.pth"
    path.write_bytes(b"this is no network")
    with pytest.raises(WeightsError, match="7be5be79"):
        metrics.load_lpips(path)
    with pytest.raises(WeightsError, match="SHA-256"):
        metrics.load_fvd(path)
    with pytest.raises(WeightsError, match="SHA-256"):
        metrics.load_fvd(path, "00000000")


def test_lpips_takes_the_users_alexnet(tmp_path, monkeypatch):
    shapes = {0: (64, 3, 11), 3: (192, 64, 5), 6: (384, 192, 3), 8: (256, 384, 3), 10: (256, 256, 3)}
    values = {}
    for index, (out, into, side) in shapes.items():
        values[f"features.{index}.weight"] = torch.randn(out, into, side, side) * 0.05
        values[f"features.{index}.bias"] = torch.zeros(out)
    path = tmp_path / "alexnet.pth"
    torch.save(values, path)
    monkeypatch.setattr(metrics, "ALEXNET_SHA256", metrics.sha256_of(path)[:8])
    module = metrics.load_lpips(path)
    assert torch.equal(module.state_dict()["net.slice3.6.weight"], values["features.6.weight"])
    video = torch.rand(1, 2, 64, 64) * 2 - 1
    assert metrics.lpips(module, video, video) == pytest.approx(0, abs=1e-6)
    assert metrics.lpips(module, video, -video) > 0


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_fvd_reads_a_torchscript_network_whose_hash_was_given(tmp_path):
    class Fake(torch.nn.Module):
        def forward(self, x: torch.Tensor, rescale: bool, resize: bool, return_features: bool):
            assert return_features
            return x.mean([3, 4])[:, 0, :8] + float(rescale) + float(resize)

    path = tmp_path / "i3d.pt"
    torch.jit.save(torch.jit.script(Fake()), path)
    network = metrics.load_fvd(path, metrics.sha256_of(path))
    features = metrics.video_features(network, torch.rand(3, 12, 16, 16))
    assert features.shape == (3, 8)
    made, true = torch.rand(2, 3, 12, 16, 16) * 2 - 1
    scores = metrics.video_scores(made, true, metrics.FigureNetworks(fvd=network))
    assert set(scores) == {"psnr", "psnr_public_code", "ssim", "fvd"} and scores["fvd"] > 0
    assert metrics.video_scores(true, true, metrics.FigureNetworks(fvd=network))["fvd"] < 1e-6


def test_figures_without_their_network_are_named_with_the_option_that_gives_it():
    assert metrics.FigureNetworks().missing == ["LPIPS (--lpips FILE)", "FVD (--fvd FILE SHA256)"]
    assert metrics.FigureNetworks(lpips=torch.nn.Identity()).missing == ["FVD (--fvd FILE SHA256)"]
