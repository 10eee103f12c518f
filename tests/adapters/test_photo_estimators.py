from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn.base import clone
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_val_predict
from sklearn.pipeline import Pipeline

import retina_fm
from retina_fm import adapters
from retina_fm.adapters import estimator, photo_estimators
from retina_fm.adapters.examples import draws
from retina_fm.adapters.heads import base
from retina_fm.errors import ConfigError, PictureError

TINY = "fundus2video-tiny"
Eyes = tuple[list[np.ndarray], np.ndarray]


def classifier(**settings: Any) -> adapters.FundusClassifier:
    return retina_fm.adapt("classification", model=TINY, head=settings.pop("head", "linear"), **settings)


@pytest.mark.parametrize("head", ["mlp", "linear", "neighbours", "nearest-mean", "knn"])
def test_every_head_tells_plain_from_tinted_eyes(eyes: Eyes, head: str) -> None:
    photos, kinds = eyes
    fitted = classifier(head=head).fit(photos[:16], kinds[:16])
    assert fitted.score(photos[16:], kinds[16:]) == 1
    probabilities = fitted.predict_proba(photos[16:])
    assert probabilities.shape == (4, 2)
    np.testing.assert_allclose(probabilities.sum(1), 1)
    assert list(fitted.classes_) == ["plain", "tinted"]


@pytest.mark.parametrize("task", ["classification", "regression", "segmentation"])
def test_estimators_clone_and_take_parameters_back(task: str) -> None:
    estimator = retina_fm.adapt(task, 4, model=TINY, seed=3)
    copy = clone(estimator)
    assert type(copy) is type(estimator)
    assert copy.get_params() == estimator.get_params()
    copy.set_params(shots=8)
    assert (copy.shots, estimator.shots) == (8, 4)
    assert "FundusS" in repr(copy) or "FundusC" in repr(copy) or "FundusR" in repr(copy)


def test_a_pipeline_a_search_and_grouped_cross_validation_work(eyes: Eyes) -> None:
    photos, kinds = eyes
    groups = np.arange(20) // 2
    pipeline = Pipeline([("classify", classifier())])
    search = GridSearchCV(pipeline, {"classify__head": ["linear", "nearest-mean"]}, cv=GroupKFold(2))
    search.fit(photos, kinds, groups=groups)
    assert search.best_score_ > 0.9
    predicted = cross_val_predict(
        classifier(), photos, kinds, groups=groups, cv=GroupKFold(4), method="predict_proba"
    )
    assert predicted.shape == (20, 2)
    assert (predicted.argmax(1) == (kinds == "tinted")).mean() > 0.9


def test_a_regressor_finds_the_share_of_blue(eyes: Eyes) -> None:
    photos, _ = eyes
    blue = np.array([photo[..., 2].mean() for photo in photos])
    for head in ("linear", "mlp"):
        fitted = retina_fm.adapt("regression", model=TINY, head=head).fit(photos, blue)
        assert fitted.score(photos, blue) > 0.3
    two = retina_fm.adapt("regression", model=TINY, head="linear").fit(photos, np.stack([blue, -blue], 1))
    assert two.predict(photos[:3]).shape == (3, 2)


def test_several_labels_at_once_come_as_names_or_as_an_indicator(eyes: Eyes) -> None:
    photos, kinds = eyes
    names = [{"tint"} if kind == "tinted" else set() for kind in kinds]
    for position in range(0, 20, 4):
        names[position].add("fourth")
        names[position + 1].add("fourth")
    fitted = classifier(class_weight="balanced").fit(photos, names)
    assert list(fitted.classes_) == ["fourth", "tint"]
    indicator = np.array([[name in one for name in fitted.classes_] for one in names], int)
    again = classifier(class_weight="balanced").fit(photos, indicator)
    np.testing.assert_array_equal(fitted.predict_proba(photos), again.predict_proba(photos))
    assert (fitted.predict(photos)[:, 1] == (kinds == "tinted")).mean() > 0.9


def test_few_shots_are_drawn_by_class_and_patient_and_remembered(eyes: Eyes, tmp_path: Path) -> None:
    photos, kinds = eyes
    patients = [f"p{position // 4}" for position in range(20)]
    fitted = classifier(head="nearest-mean", shots=2, seed=1).fit(photos, kinds, groups=patients)
    drawn = fitted.drawn_
    assert sorted(kinds[drawn]) == ["plain", "plain", "tinted", "tinted"]
    for kind in ("plain", "tinted"):
        of_kind = [patients[position] for position in drawn if kinds[position] == kind]
        assert len(set(of_kind)) == 2
    again = classifier(head="nearest-mean", shots=2, seed=1).fit(photos, kinds, groups=patients)
    np.testing.assert_array_equal(drawn, again.drawn_)


def test_photos_may_come_from_a_folder_and_names_are_kept(eyes: Eyes, tmp_path: Path) -> None:
    for position, photo in enumerate(eyes[0][:8]):
        Image.fromarray(photo).save(tmp_path / f"eye{position}.png")
    fitted = classifier(shots=1).fit(tmp_path, eyes[1][:8])
    assert all(Path(name).parent == tmp_path for name in fitted.drawn_names_)


def test_the_model_may_be_a_path_and_is_saved_by_its_name(
    eyes: Eyes, generator_folder: Path, tmp_path: Path
) -> None:
    (photos, kinds), model = eyes, generator_folder
    fitted = retina_fm.adapt("classification", model=model, head="nearest-mean").fit(photos[:4], kinds[:4])
    opened = adapters.load(fitted.save(tmp_path / "adapter"))
    assert opened.model == str(model)
    np.testing.assert_array_equal(opened.embed(photos[:2]), fitted.embed(photos[:2]))
    with pytest.raises(ConfigError, match="fuse_with repeats"):
        retina_fm.adapt("classification", model=model, fuse_with=str(model)).fit(photos, kinds)


def test_class_weights_lift_the_rare_class(eyes: Eyes) -> None:
    photos, kinds = eyes
    rows = [*range(0, 20, 2), 1]  # ten plain, one tinted
    # A weak head, or the two kinds are told apart so surely that weights have nothing left to lift.
    plain = classifier(head_settings={"C": 0.01}).fit([photos[r] for r in rows], kinds[rows])
    fair = classifier(class_weight="balanced", head_settings={"C": 0.01})
    fair.fit([photos[r] for r in rows], kinds[rows])
    assert fair.predict_proba(photos)[:, 1].mean() > plain.predict_proba(photos)[:, 1].mean() + 0.1


def test_the_encoder_may_be_trained_along(eyes: Eyes, tmp_path: Path) -> None:
    photos, kinds = eyes
    settings = {"epochs": 2, "learning_rate": 5e-3, "validation": 0.0}
    fitted = classifier(head="mlp", tune="last", head_settings=settings, dtype="float32")
    fitted.fit(photos[:8], kinds[:8])
    base = retina_fm.load(TINY)
    changed = [name for name, p in fitted.tuned_.named_parameters() if not p.equal(base.get_parameter(name))]
    assert changed
    assert all(int(name.split(".")[1]) >= 16 for name in changed)
    fitted.save(tmp_path / "tuned")
    loaded = adapters.load(tmp_path / "tuned")
    np.testing.assert_array_equal(loaded.predict_proba(photos), fitted.predict_proba(photos))


def pandas_labels() -> Any:
    pandas = pytest.importorskip("pandas")
    return pandas.Series(labels_with(None), dtype="string")


def test_figures_after_training_the_encoder_along_are_those_of_the_state_kept(
    eyes: Eyes, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos, kinds = eyes
    scores = iter([0.9, 0.2, 0.1])
    fitted = classifier(head="mlp", tune="last", head_settings={"epochs": 2}, dtype="float32")
    joint = adapters.MLPClassifier.joint

    def falling(self: Any, *arguments: Any) -> Any:
        return joint(self, *arguments)[0], lambda: next(scores)

    monkeypatch.setattr(adapters.MLPClassifier, "joint", falling)
    fitted.fit(photos[:12], kinds[:12], val=(photos[12:], kinds[12:]))
    probabilities = fitted.predict_proba(photos[12:])[:, 1]
    assert fitted.head_.validation_auroc_ == roc_auc_score(kinds[12:] == "tinted", probabilities)
    assert 0.05 < fitted.head_.temperature_ < 20


def test_sets_of_labels_are_scored_whole(eyes: Eyes) -> None:
    photos, kinds = eyes
    sets = [{kind, "even"} if number % 2 else {kind} for number, kind in enumerate(kinds)]
    fitted = classifier().fit(photos, sets)
    predicted = fitted.predict(photos)
    wanted = np.array([[name in one for name in fitted.classes_] for one in sets])
    assert fitted.score(photos, sets) == (predicted == wanted).all(1).mean()
    assert classifier(shots=np.int64(4)).fit(photos, kinds).score(photos, kinds) > 0.9


def test_a_wrong_head_is_told_before_photos_are_encoded(eyes: Eyes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapters.FundusClassifier, "_embeddings", lambda *_: pytest.fail("encoded"))
    with pytest.raises(ConfigError, match="Unknown head"):
        classifier(head="forest").fit(*eyes)


def labels_with(value: Any) -> list[Any]:
    return ["a", "b"] * 9 + ["a", value]


@pytest.mark.parametrize(
    ("settings", "y", "message"),
    [
        ({}, ["a"] * 20, "only one class"),
        ({}, labels_with(None), "missing.*position 19"),
        ({}, [0.0, 1.0] * 9 + [0.0, float("nan")], "missing"),
        ({}, pandas_labels, "missing.*position 19"),
        ({}, [0.5, 1.25] * 10, "regression"),
        ({}, ["a", "b"] * 9, "20 photos and 18 labels"),
        ({}, None, "Labels are missing"),
        ({"shots": 11}, ["a", "b"] * 10, "10 examples of 10 patients, 11 shots"),
        ({"shots": 0}, ["a", "b"] * 10, "measure"),
        ({"head": "forest"}, ["a", "b"] * 10, "Unknown head"),
        ({"head_settings": {"epoch": 3}}, ["a", "b"] * 10, "no setting 'epoch'"),
        ({"tune": "encoder"}, ["a", "b"] * 10, "tune is 'encoder'"),
        ({"tune": "all"}, ["a", "b"] * 10, "through head='mlp'"),
        ({"class_weight": {"c": 2}}, ["a", "b"] * 10, "names 'c'"),
        ({"fuse_with": TINY}, ["a", "b"] * 10, "repeats an encoder"),
    ],
)
def test_what_cannot_be_learnt_from_is_said(
    eyes: Eyes, settings: dict[str, Any], y: Any, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        classifier(**settings).fit(eyes[0], y() if callable(y) else y)


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_labels_and_groups_are_checked_once_a_fit(
    eyes: Eyes, task: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: dict[str, int] = {}

    def count(module: Any, name: str) -> None:
        whole = getattr(module, name)

        def counted(given: Any, *rest: Any) -> Any:
            looked[name] = looked.get(name, 0) + (given is not None)
            return whole(given, *rest)

        monkeypatch.setattr(module, name, counted)

    for module in (estimator, photo_estimators, base, draws):
        for name in ("class_targets", "regression_targets", "check_groups"):
            if hasattr(module, name):
                count(module, name)
    photos, kinds = eyes
    y = kinds if task == "classification" else np.arange(20)
    fitted = retina_fm.adapt(
        task, 4, model=TINY, tune="last", dtype="float32", progress=False, head_settings={"epochs": 1}
    )
    patients = [f"p{number}" for number in range(20)]
    fitted.fit(photos[:12], y[:12], groups=patients[:12], val=(photos[12:], y[12:], patients[12:]))
    targets = "class_targets" if task == "classification" else "regression_targets"
    assert looked == {targets: 2, "check_groups": 2}, "once for training, once for validation"


def test_a_patient_in_both_parts_is_refused(eyes: Eyes) -> None:
    photos, kinds = eyes
    with pytest.raises(ConfigError, match=r"1 patients are in the training and the validation part \(p3\)"):
        classifier().fit(
            photos[:10],
            kinds[:10],
            groups=[f"p{n}" for n in range(10)],
            val=(photos[10:12], kinds[10:12], ["p3", "x"]),
        )


def test_a_class_that_was_never_seen_is_refused_in_validation(eyes: Eyes) -> None:
    with pytest.raises(ConfigError, match="Labels odd are none of the classes"):
        classifier().fit(eyes[0], eyes[1], val=(eyes[0][:2], ["odd", "plain"]))


def test_one_photo_or_none_is_refused_with_the_remedy(eyes: Eyes) -> None:
    with pytest.raises(PictureError, match=r"pass \[photo\]"):
        classifier().fit(eyes[0][0], ["a"])
    with pytest.raises(PictureError, match="at least one"):
        classifier().fit([], [])


def test_unknown_tasks_and_settings_name_the_nearest() -> None:
    with pytest.raises(ConfigError, match="Did you mean 'segmentation'"):
        retina_fm.adapt("segmentaton")
    with pytest.raises(ConfigError, match=r"no setting 'step'\. Did you mean 'steps'"):
        retina_fm.adapt("segmentation", step=3)
    with pytest.raises(ConfigError, match="shots is -1"):
        retina_fm.adapt("segmentation", -1)
