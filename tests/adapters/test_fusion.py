from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

import retina_fm
from retina_fm import adapters


def two_encoders(count: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Embeddings of two made encoders: the first knows the class of one half, the second of the other half.

    An encoder that does not know says so in its last feature, as real ones do by what they show.
    """
    random = np.random.default_rng(seed)
    y = random.integers(0, 2, count)
    knows_first = random.random(count) < 0.5
    parts = []
    for knows in (knows_first, ~knows_first):
        part = random.normal(0, 1, (count, 8))
        # where it does not know, the direction of the class is loud and random
        part[:, 0] += np.where(knows, 2.0 * (2 * y - 1), 3.0 * random.choice([-1, 1], count))
        part[:, 7] = np.where(knows, 2.0, -2.0) + random.normal(0, 0.5, count)
        parts.append(part)
    return np.concatenate(parts, 1), y, knows_first


def test_fusion_beats_both_encoders_alone_and_attention_tells_who_knew() -> None:
    X, y, _ = two_encoders(400, 0)  # noqa: N806
    Z, truth, who = two_encoders(600, 1)  # noqa: N806
    settings = {"hidden": 32, "epochs": 25, "learning_rate": 3e-3}
    scores = {}
    for name, columns, widths in (
        ("first", slice(0, 8), None),
        ("second", slice(8, 16), None),
        ("fused", slice(0, 16), (8, 8)),
    ):
        head = adapters.MLPClassifier(widths, **settings).fit(X[:, columns], y)
        scores[name] = roc_auc_score(truth, head.predict_proba(Z[:, columns])[:, 1])
    weights = head.attention(Z)
    np.testing.assert_allclose(weights.sum(1), 1)
    assert scores["fused"] > max(scores["first"], scores["second"]) + 0.1
    assert roc_auc_score(who, weights[:, 0]) > 0.95
    assert head.attention_.shape == (400, 2)


def test_widths_that_do_not_add_up_are_refused() -> None:
    with pytest.raises(ValueError, match=r"widths \[3, 4\] do not add up to the 8 features"):
        adapters.MLPClassifier((3, 4)).fit(np.ones((6, 8)), [0, 1] * 3)


def test_two_encoders_are_fused_each_with_its_own_transform(
    eyes: tuple[list[np.ndarray], np.ndarray], other_tiny: Path, tmp_path: Path
) -> None:
    photos, kinds = eyes
    with pytest.warns(retina_fm.errors.LicenceNotice, match="CC-BY-NC"):
        fused = retina_fm.adapt("classification", model="fundus2video-tiny", fuse_with=str(other_tiny))
        fused.fit(photos, kinds)
    assert fused.attention_.shape == (20, 2)
    assert fused.attention(photos[:3]).shape == (3, 2)
    assert [one.name for one in fused.encoders_] == ["fundus2video-tiny", "other-tiny"]
    fused.save(tmp_path / "fused")
    loaded = adapters.load(tmp_path / "fused")
    np.testing.assert_array_equal(loaded.predict_proba(photos), fused.predict_proba(photos))
    with pytest.raises(retina_fm.errors.ConfigError, match=r"claims more than the encoders allow.*CC-BY-NC"):
        fused.save(tmp_path / "free", licence="Apache-2.0")
    with pytest.raises(retina_fm.errors.ConfigError, match=r"claims more"):
        fused.save(tmp_path / "free", licence="CC-BY-NC-4.0 OR MIT")
    fused.save(tmp_path / "bound", licence="CC-BY-NC-4.0 AND MIT")
    manifest = adapters.read_manifest(tmp_path / "fused")
    assert manifest["licence"] == "CC-BY-NC-4.0"
