from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from retina_fm.errors import ConfigError
from retina_fm.models import ModelCard, WeightsConfig, save_folder
from retina_fm.network import Architecture, Encoder, Generator, encoder_of
from retina_fm.network.architecture import ANATOMY
from retina_fm.pictures import Transform
from retina_fm.training.simulator.anatomy.drawn import DrawnRetina, draw_retina
from retina_fm.training.simulator.eyes.prepare_folder import prepare_folder
from retina_fm.training.simulator.eyes.prepared import eye_metadata
from retina_fm.training.simulator.eyes.seen import see


class Knowing(Encoder):
    """An encoder that knows a drawn retina, whatever size and side it is shown at."""

    def __init__(self, retina: DrawnRetina, noise: Tensor | None = None) -> None:
        super().__init__(
            Architecture(width=2, encoder_blocks=1, vessels=True, anatomy=ANATOMY, lesion_decoder=True)
        )
        size = retina.photo.shape[0]
        y, x = np.mgrid[:size, :size] + 0.5
        fovea = np.exp(-(np.hypot(y - retina.fovea_centre[0], x - retina.fovea_centre[1]) ** 2) / 200)
        parts = (retina.vessels, retina.arteries, retina.veins, retina.disc, fovea)
        self.truth = torch.from_numpy(np.stack(parts).astype(np.float32))[None]
        self.photo = torch.from_numpy(retina.photo).float().mean(2)[None, None]
        self.calls, self.noise = 0, noise

    def maps(self, view: Tensor) -> tuple[Tensor, ...]:
        side = (view.shape[2], view.shape[3])
        truth = F.interpolate(self.truth, side, mode="bilinear", antialias=True, align_corners=False)
        photo = F.interpolate(self.photo, side, mode="bilinear", antialias=True, align_corners=False)
        shown = view.mean(1, keepdim=True)
        mirrored = (shown * photo.flip(-1)).mean() > (shown * photo).mean()
        self.calls += 1
        if self.noise is not None and self.calls % 2:
            truth = truth + F.interpolate(self.noise, side) * torch.tensor([1.0, 0, 0, 0, 0]).view(1, 5, 1, 1)
        return (truth.flip(-1) if mirrored else truth,)

    def dense_maps(self, maps: tuple[Tensor, ...]) -> dict[str, Tensor]:  # type: ignore[override]
        return dict(zip(("vessel", *ANATOMY), maps[0].unbind(1), strict=True))


@pytest.fixture(scope="module")
def retina() -> DrawnRetina:
    return draw_retina(4, 256, lesions={})


def test_what_is_seen_becomes_targets(retina: DrawnRetina) -> None:
    encoder = Knowing(retina)
    found = see(encoder, retina.photo, retina.field_of_view, retina.field_radius)
    assert encoder.calls == 4
    trunk = retina.vessels > 0.9
    assert (found.vessels > 0.5)[trunk].mean() > 0.9
    assert np.hypot(*np.subtract(found.landmarks[0], retina.disc_centre)) < 4
    assert np.hypot(*np.subtract(found.landmarks[2], retina.fovea_centre)) < 4
    assert found.landmarks[1] == pytest.approx(np.sqrt(retina.disc.sum() / np.pi), rel=0.15)
    assert found.disc is not None and found.trust > 0.2 and found.unsure[trunk].mean() < 0.05


def test_what_views_do_not_agree_on_is_unsure(retina: DrawnRetina) -> None:
    noise = torch.zeros(1, 1, 256, 256)
    noise[..., 60:90, 60:90] = 1.0
    found = see(Knowing(retina, noise), retina.photo, retina.field_of_view, retina.field_radius)
    assert found.unsure[65:85, 65:85].mean() > 0.9
    assert found.unsure.mean() < 0.1


@pytest.mark.parametrize("anatomy", [(), ("artery", "vein", "fovea")])
def test_encoders_that_map_no_disc_are_refused(anatomy: tuple[str, ...], retina: DrawnRetina) -> None:
    shape = {"width": 2, "encoder_blocks": 1, "vessels": True, "lesion_decoder": True}
    plain = Encoder(Architecture.model_validate({**shape, "anatomy": anatomy}))
    with pytest.raises(ConfigError, match="seen-by"):
        see(plain, retina.photo, retina.field_of_view, retina.field_radius)


def test_disc_and_fovea_are_enough(retina: DrawnRetina) -> None:
    encoder = Knowing(retina)
    encoder.architecture = encoder.architecture.model_copy(update={"anatomy": ("disc", "fovea")})
    found = see(encoder, retina.photo, retina.field_of_view, retina.field_radius)
    assert found.disc is not None


def test_a_folder_is_prepared_by_what_a_model_sees_and_again_by_another(tmp_path: Path) -> None:
    photos, out = tmp_path / "photos", tmp_path / "eyes"
    photos.mkdir()
    Image.fromarray(draw_retina(1, 96).photo).save(photos / "a.png")
    for number in (1, 2):
        torch.manual_seed(number)
        shape = Architecture(width=2, encoder_blocks=1, vessels=True, anatomy=ANATOMY, skips=True)
        architecture = shape.model_copy(update={"lesion_decoder": True})
        config = WeightsConfig(
            name=f"seer{number}",
            kind="fundus2video",
            network=architecture.model_dump(mode="json"),
            transform=Transform(size=96),
            card=ModelCard(licence="Apache-2.0", training_data="none"),
        )
        encoder = encoder_of(Generator(shape), architecture)
        pooling = {f"pooling.{key}": value for key, value in encoder.pooling.state_dict().items()}
        save_folder(tmp_path / f"seer{number}", config, {**Generator(shape).state_dict(), **pooling})
    first = prepare_folder(photos, out, size=96, seen_by=str(tmp_path / "seer1"), workers=1)
    assert first.failed == [] and eye_metadata(first.eyes[0])["vessels"] == "seen"
    again = prepare_folder(photos, out, size=96, seen_by=str(tmp_path / "seer1"), workers=1)
    assert (again.made, again.reused) == (0, 1)
    other = prepare_folder(photos, out, size=96, seen_by=str(tmp_path / "seer2"), workers=1)
    assert (other.made, other.eyes == first.eyes) == (1, False)
    assert len(list(out.glob("*.safetensors"))) == 1
    with pytest.raises(ConfigError, match="seen-by"):
        prepare_folder(photos, out, size=96, seen_by="fundus2video-tiny", workers=1)
