"""What numbers are of, and which of them compare."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Vaectl
from vaectl import config
from vaectl.config.meaning import (
    bits_per_dimension,
    dimensions,
    meaning,
    measured,
    notes,
    without_effect,
)
from vaectl.likelihoods.base import Likelihood
from vaectl.runs.find import summaries

MEASURES = {
    "bernoulli": "binary",
    "continuous_bernoulli": "density",
    "gaussian": "density",
    "discretized_logistic": "bytes",
}


def _settings(likelihood: str, binarization: str) -> config.Config:
    return config.Config.model_validate(
        {"likelihood": {"name": likelihood}, "data": {"binarization": binarization}}
    )


def test_numbers_of_different_measures_or_pixels_are_told_apart() -> None:
    assert {name: plug().measure for name, plug in Likelihood.known.items()} == MEASURES
    kinds = ("threshold", "stochastic", "static", "none")
    for words in (meaning, measured):
        said = {
            (measure, kind): {words(_settings(name, kind)) for name in MEASURES}
            for name, measure in MEASURES.items()
            for kind in kinds
        }
        of_each = [words(_settings(n, k)) for n in MEASURES if n != "gaussian" for k in kinds]
        assert len({*of_each}) == len(of_each) == len(said)
        for kind in kinds:
            densities = {words(_settings(n, kind)) for n, m in MEASURES.items() if m == "density"}
            assert len(densities) == 1


@pytest.mark.parametrize("likelihood", MEASURES)
def test_only_probabilities_of_the_bytes_of_the_data_are_in_bits(likelihood: str) -> None:
    for kind in ("threshold", "stochastic", "static", "none"):
        settings = _settings(likelihood, kind)
        is_right = MEASURES[likelihood] == "bytes" and kind == "none"
        assert dimensions(settings, (4, 5, 3)) == (60 if is_right else None)
        # whoever may be surprised is told
        assert bool(notes(settings)) == (kind == "none" or MEASURES[likelihood] != "binary")
    assert bits_per_dimension(-60 * 8 * math.log(2), 60) == pytest.approx(8)  # uniform bytes


def test_bits_per_dimension_stand_beside_nats_where_they_are_right(vaectl: Vaectl) -> None:
    small = (
        "train", "--hidden-size", "4", "--code-size", "2", "--epochs", "1",
        "--set", "data.train_size=100", "--set", "data.validation_size=20",
        "--set", "data.test_size=20", "--set", "data.binarization=none",
    )  # fmt: skip
    for name in ("discretized_logistic", "gaussian"):
        answer = vaectl(*small, "--likelihood", name, "--name", name, "-q")
        assert answer.code == 0
        assert ("bits per dimension" in answer.out) is (name == "discretized_logistic")
        answer = vaectl("evaluate", name, "--importance-samples", "2", "--json", "-q")
        told = json.loads(answer.out)
        bits = told["bits_per_dimension"]
        said = vaectl("evaluate", name, "--importance-samples", "0", "-q").out
        if name == "gaussian":
            assert bits is None
            assert "bits" not in said
            continue
        assert bits["dimensions"] == 784
        for key, sign in (("elbo", -1), ("kl", 1), ("nll", 1), ("log_likelihood", -1)):
            expected = sign * told[key]["mean"] / (784 * math.log(2))
            assert bits[key]["mean"] == pytest.approx(expected)
            error = told[key]["standard_error"] / (784 * math.log(2))
            assert bits[key]["standard_error"] == pytest.approx(error)
        assert f"{bits['elbo']['mean']:.4f}" in said
        record = json.loads(Path(f"runs/{name}/run.json").read_text())
        assert record["dimensions"] == 784
    assert len({row.measure for row in summaries(Path("runs"))}) == 2  # never ranked together


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"optimizer": {"schedule": {"final": 0.1}}}, "optimizer.schedule.final"),
        (
            {"optimizer": {"schedule": {"name": "cosine", "warmup_epochs": 5}}, "epochs": 1},
            "optimizer.schedule.warmup_epochs",
        ),
        (
            {"objective": {"name": "beta", "warmup_epochs": 5}, "epochs": 1},
            "objective.beta.warmup_epochs",
        ),
        ({"optimizer": {"name": "rmsprop", "nesterov": True}}, "optimizer.rmsprop.nesterov"),
        (
            {"optimizer": {"name": "sgd", "momentum": 0, "nesterov": True}},
            "optimizer.sgd.nesterov",
        ),
        ({"optimizer": {"weight_decay_on": "weights"}}, "optimizer.weight_decay_on"),
        ({"early_stopping": {"min_delta": 0.1}}, "early_stopping.min_delta"),
        ({"data": {"binarization": "static", "threshold": 0.4}}, "data.threshold"),
        (
            {"likelihood": {"name": "gaussian", "scale": "fixed", "smallest": 0.1}},
            "likelihood.gaussian.smallest",
        ),
    ],
)
def test_a_setting_without_effect_is_told(settings: dict[str, Any], key: str) -> None:
    (note,) = without_effect(config.Config.model_validate(settings))
    assert note.startswith(f"{key} ")


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"optimizer": {"name": "adam", "rmsprop": {"nesterov": True}}},  # for another optimizer
        {"optimizer": {"name": "rmsprop", "nesterov": True, "momentum": 0.9}},
        {"optimizer": {"schedule": {"name": "cosine", "final": 0.1, "warmup_epochs": 5}}},
        {"early_stopping": {"min_delta": 0.1, "patience": 3}},
        {"data": {"threshold": 0.4}},
    ],
)
def test_nothing_is_told_of_settings_with_an_effect(settings: dict[str, Any]) -> None:
    assert not without_effect(config.Config.model_validate(settings))
