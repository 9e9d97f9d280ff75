"""The time of a study, by what it was spent on."""

import json
import re
import threading
import time

import jax
import jax.numpy as jnp
import pytest

from tests.conftest import Vaectl
from vaectl.base import spent
from vaectl.cli import steps

TINY = ("--epochs", 1, "--set", "model.hidden_size=3", "--set", "data.train_size=300")
COMPARE = ("compare-optimizers", "--optimizers", "adam", "--seeds", 1, "--protocol", "paper", *TINY)
SWEEP = ("sweep", "--vary", "model.code_size=2", "--seeds", 1, *TINY)
NAMES = ("training", "evaluation", "compilation", "timing_of_steps", "saving", "figures_and_page")


class Clock:
    """A clock that is put forward by hand."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(time, "perf_counter", found)
    return found


def test_the_innermost_part_has_the_time_and_all_of_them_add_up(clock: Clock) -> None:
    with spent.counted() as account:
        clock.now += 1
        with spent.on("evaluation"):
            clock.now += 10
            with spent.on("saving"):
                clock.now += 100
            clock.now += 10
        clock.now += 1
    parts = {part: seconds for part, seconds in account.parts.items() if seconds}
    assert parts == {"evaluation": 20, "saving": 100, "rest": 2}


def test_a_part_that_is_a_whole_has_all_of_its_time_but_compilation(clock: Clock) -> None:
    with spent.counted() as account:
        with spent.on("timing of steps", whole=True):
            clock.now += 1
            with spent.on("training"):
                clock.now += 10
                account.compiled(3)
        with spent.on("training"):
            clock.now += 100
    parts = {part: seconds for part, seconds in account.parts.items() if seconds}
    assert parts == {"timing of steps": 8, "compilation": 3, "training": 100}


def test_compilation_within_compilation_counts_once(clock: Clock) -> None:
    with spent.counted() as account, spent.on("training"):
        clock.now += 5
        account.compiled(2)
        clock.now += 1
        account.compiled(4)
        clock.now += 1
        account.compiled(1)
    assert account.parts["compilation"] == 5
    assert account.parts["training"] == 2


def test_an_error_ends_a_part(clock: Clock) -> None:
    @spent.on("saving")
    def save() -> None:
        clock.now += 1
        raise ValueError("disk")

    with spent.counted() as account:
        with pytest.raises(ValueError, match="disk"):
            save()
        clock.now += 2
    assert (account.parts["saving"], account.parts["rest"]) == (1, 2)


def test_without_an_account_and_in_other_threads_nothing_is_counted(clock: Clock) -> None:
    def elsewhere() -> None:
        with spent.on("saving"):
            clock.now += 1

    elsewhere()
    with spent.counted() as account:
        other = threading.Thread(target=elsewhere)
        other.start()
        other.join()
    assert (account.parts["saving"], account.parts["rest"]) == (0, 1)


def test_what_jax_compiles_is_compilation_wherever_it_happens() -> None:
    with spent.counted() as account, spent.watching_compilation(), spent.on("evaluation"):
        jax.jit(lambda x: jnp.sin(x) @ x)(jnp.ones((7, 7))).block_until_ready()
    before = account.parts["compilation"]
    assert before > 0
    with spent.counted() as account:
        jax.jit(lambda x: jnp.cos(x) @ x)(jnp.ones((7, 7))).block_until_ready()
    assert account.parts["compilation"] == 0  # nobody listens any more


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(COMPARE, id="comparison", marks=pytest.mark.full),
        pytest.param(SWEEP, id="sweep"),
    ],
)
def test_the_parts_of_a_study_add_up_and_each_is_there(
    vaectl: Vaectl, command: tuple[object, ...]
) -> None:
    answer = vaectl(*command, "--json")
    assert "time:" not in answer.err
    told = json.loads(answer.out)["time"]
    assert sum(told["parts"].values()) == pytest.approx(told["seconds"], abs=0.01)
    assert min(told["parts"][name] for name in NAMES) > 0
    assert told["parts"]["waiting_for_workers"] == 0
    # of this command: what is there is not trained again
    again = vaectl(*command)
    assert len(re.findall(r"^time:  .* = .*$", again.err, re.MULTILINE)) == 1
    assert "training" not in again.err.partition("time:")[2]
    assert "time:" not in vaectl(*command, "--quiet").err


@pytest.mark.full
def test_of_workers_the_driver_tells_how_long_it_waited(vaectl: Vaectl) -> None:
    told = json.loads(vaectl(*COMPARE, "--executor", "processes:1", "--json").out)["time"]["parts"]
    assert told["training"] == 0
    assert told["waiting_for_workers"] > 0


def test_rounded_parts_add_up(clock: Clock) -> None:
    with spent.counted() as account:
        with spent.on("training"):
            clock.now += 61.4
        with spent.on("saving"):
            clock.now += 1.4
        with spent.on("loading"):
            clock.now += 0.3
        clock.now += 0.5
    told = steps.of_time(account, 61.4, None)
    assert told == "time:  1 min 04 s = training 1 min 01 s (97%), saving 2 s, rest 1 s"


def test_the_share_of_workers_in_training_steps_is_told(clock: Clock) -> None:
    with spent.counted() as account, spent.on("waiting for workers"):
        clock.now += 10
    told = "time:  10 s = waiting for workers 10 s (75% of 2 workers in training steps)"
    assert steps.of_time(account, 15, 2) == told
    assert steps.of_time(account, 15, None) == "time:  10 s = waiting for workers 10 s"
