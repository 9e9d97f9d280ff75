"""Figures of sweeps."""

import numpy as np
import pytest

from vaectl.pictures import responses
from vaectl.pictures.responses import Row


@pytest.mark.parametrize("count", [4, 40])
def test_scores_beyond_the_end_of_an_axis_have_no_number_of_its_own(count: int) -> None:
    scores = np.append(np.linspace(-100, -102, count - 1), -5000.0)
    figure = responses.parallel({"a": range(count)}, scores, "elbo", title="")
    words = [text.get_text() for text in figure.axes[0].texts]
    (below,) = (word for word in words if "\N{LESS-THAN OR EQUAL TO}" in word)
    floor = float(below.split()[1])
    assert -110 < floor < -104
    assert f"{floor:g}" not in words
    harmless = responses.parallel({"a": range(count)}, scores.clip(-102), "elbo", title="")
    assert not any("\N{LESS-THAN OR EQUAL TO}" in t.get_text() for t in harmless.axes[0].texts)


def test_names_of_values_keep_their_letters() -> None:
    values = ["npz:A.npz", "npz:a.npz", None, True]
    axes = responses.responses({"a": values}, (), np.zeros((4, 1)), "elbo", title="").axes[0]
    names = [label.get_text() for label in axes.get_xticklabels()]
    assert names == ["npz:A.npz", "npz:a.npz", "null", "true"]


def test_of_many_values_the_best_and_the_worst_are_shown() -> None:
    rows = [Row(f"{i}", float(i), i - 0.5, i + 0.5) for i in range(15)]
    figure = responses.effects({"a": rows, "b": rows[:2]}, "elbo", title="", facts="facts")
    names = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert names == [*"012345", "9", "10", "11", "12", "13", "14", "0", "1"]
    (heading,) = figure.texts
    assert heading.get_text() == "facts; a: the best and the worst 6 of 15 values"
