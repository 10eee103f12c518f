from __future__ import annotations

import numpy as np
import torch

import retina_fm
from conftest import disc_picture
from retina_fm._notebook import fact_table
from retina_fm.models.generation import SyntheticAngiogram
from retina_fm.network.features import Features


def test_features_say_their_shapes_and_no_numbers() -> None:
    found = Features(torch.zeros(2, 5), (torch.zeros(2, 3, 8, 8),), None)
    assert repr(found) == "Features(pooled=(2, 5) float32, maps=[(2, 3, 8, 8) float32])"
    assert "(2, 3, 8, 8) float32" in found._repr_html_()


def test_an_angiogram_is_shown_as_pictures_in_a_notebook() -> None:
    video = SyntheticAngiogram(np.zeros((12, 40, 50), np.uint8), "some <model>", "0" * 64, True)
    assert repr(video) == "SyntheticAngiogram(frames=12 of 50 x 40, model=some <model>)"
    page = video._repr_html_()
    assert '<img src="data:image/jpeg;base64,' in page and "some &lt;model&gt;" in page


def test_encoders_say_what_they_give_and_not_their_layers() -> None:
    encoder = retina_fm.load("fundus2video-tiny")
    line = repr(encoder)
    assert line.startswith("Fundus2VideoEncoder(name=fundus2video-tiny, embedding=")
    assert "at stride 16" in line and encoder.weights_sha256[:12] in line
    assert len(line.splitlines()) == 1 and "Conv2d" not in line
    assert "licence" in encoder._repr_html_() and "Apache-2.0" in encoder._repr_html_()


def test_estimators_say_what_was_asked_and_learnt() -> None:
    encoder = retina_fm.load("fundus2video-tiny")
    estimator = retina_fm.adapt("classification", model=encoder, head="linear")
    assert repr(estimator) == "FundusClassifier(model='fundus2video-tiny', head='linear')"
    assert "not fitted" in estimator._repr_html_()
    estimator.fit([disc_picture(number, 64) for number in range(4)], ["a", "b"] * 2)
    page = estimator._repr_html_()
    assert "4 photos" in page and "a, b" in page


def test_what_is_shown_is_escaped_and_short() -> None:
    page = fact_table("<b>", [("a&b", "x" * 1000), ("none", None)])
    assert "&lt;b&gt;" in page and "a&amp;b" in page and "none" not in page and len(page) < 800
