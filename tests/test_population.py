import resource
import time
import types

import jax
import numpy as np
import pytest

from tests.test_training import NOISY, PIXELS, SHAPE, _bytes, _fit, _images, _settings
from vaectl import config
from vaectl.base import devices, surroundings
from vaectl.base.errors import DivergedError
from vaectl.training import compiled, footprint, population
from vaectl.training.fit import Epoch
from vaectl.training.program import Member, Program

# a seed, a learning rate that diverges, and another of each
MEMBERS = [(0, 1e-2), (0, 1e9), (1, 3e-2)]


def _splits() -> tuple[jax.Array, jax.Array]:
    return _images(40), _images(12, 1)


def _member_settings(seed: int, learning_rate: float) -> config.Config:
    optimizer = {"name": "sgd", "sgd": {"learning_rate": learning_rate}}
    return _settings(seed=seed, optimizer=optimizer)


@pytest.mark.parametrize("how", ["together", "in turn"])
def test_a_member_equals_the_same_run_alone_and_one_that_diverges_stops_nobody(
    how: population.Strategy,
) -> None:
    settings = [_member_settings(*each) for each in MEMBERS]
    program = Program.of(settings[0], images=40, image_shape=SHAPE)
    members = [Member.of(each) for each in settings]
    epochs: dict[int, list[tuple[Epoch, list[bytes]]]] = {0: [], 1: [], 2: []}
    diverged = []
    began, seconds = time.perf_counter(), 0.0
    for index, event, _ in population.fit(program, members, _splits(), how):
        if isinstance(event, Epoch):
            epochs[index].append((event, _bytes(event.state)))
            assert min(event.train_seconds, event.validation_seconds) > 0
            seconds += event.train_seconds + event.validation_seconds
        elif isinstance(event, DivergedError):
            diverged.append((index, str(event)))
    assert seconds < time.perf_counter() - began
    assert [index for index, _ in diverged] == [1]
    with pytest.raises(DivergedError) as alone:
        _fit(settings[1])
    assert diverged[0][1] == str(alone.value)
    for index in (0, 2):
        solo = _fit(settings[index])
        assert len(solo) == len(epochs[index]) == 3
        for one, (epoch, state) in zip(solo, epochs[index], strict=True):
            if how == "in turn":
                assert state == _bytes(one.state)
            # vmap multiplies matrices in batches, which adds in another order
            assert epoch.train == pytest.approx(one.train, rel=1e-5)
            assert epoch.validation == pytest.approx(one.validation, rel=1e-5)


@pytest.mark.full
def test_members_that_train_together_have_the_dropout_of_each_alone() -> None:
    settings = [_settings(seed=seed, epochs=2, model=NOISY) for seed in (0, 1)]
    program = Program.of(settings[0], images=40, image_shape=SHAPE)
    members = [Member.of(each) for each in settings]
    found: dict[int, list[Epoch]] = {0: [], 1: []}
    for index, event, _ in population.fit(program, members, _splits(), "together"):
        assert isinstance(event, Epoch)
        found[index].append(event)
    for index, epochs in found.items():
        for one, epoch in zip(_fit(settings[index]), epochs, strict=True):
            assert epoch.train == pytest.approx(one.train, rel=1e-4)
            assert epoch.validation == pytest.approx(one.validation, rel=1e-4)


def test_no_more_members_train_at_once_than_files_can_be_opened(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    program = Program.of(_settings(), images=40, image_shape=SHAPE)
    place = jax.devices()[:1]
    assert population.at_once(program, 1000, 12, place) == 1000
    monkeypatch.setattr(resource, "getrlimit", lambda _: (surroundings.FILES + 7, 4096))
    assert population.at_once(program, 1000, 12, place) == 7


def test_members_that_do_not_fit_on_the_device_train_in_groups(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = [_member_settings(seed, 1e-2) for seed in range(3)]
    program = Program.of(settings[0], images=40, image_shape=SHAPE)
    members = [Member.of(each) for each in settings]

    def fit() -> list[tuple[int, int, float]]:
        events = population.fit(program, members, _splits(), "together")
        return [(i, e.epoch, e.validation["elbo"]) for i, e, _ in events if isinstance(e, Epoch)]

    at_once = fit()
    monkeypatch.setattr(population, "at_once", lambda *_: 2)
    in_groups = fit()
    assert [i for i, _, _ in at_once] == [0, 1, 2] * 3
    assert [i for i, _, _ in in_groups] == [0, 1] * 3 + [2] * 3
    for (*one, elbo), (*other, elbo_too) in zip(sorted(at_once), sorted(in_groups), strict=True):
        assert one == other
        assert elbo == pytest.approx(elbo_too, rel=1e-5)


def test_as_many_members_train_at_once_as_there_is_memory_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    program = Program.of(_member_settings(0, 1e-2), images=40, image_shape=SHAPE)
    cpu = jax.devices("cpu")[0]
    images = 52 * PIXELS
    one = footprint.of_training(program, 12) - images
    for room, expected in ((images + 6 * one, 3), (images + 5 * one, 2), (images, 1), (10**12, 5)):
        monkeypatch.setattr(devices, "memory_of", lambda _device, room=room: room)
        assert population.at_once(program, 5, 12, [cpu]) == expected


def test_members_compile_nothing_new() -> None:
    settings = [_member_settings(seed, 1e-2) for seed in range(3)]
    program = Program.of(settings[0], images=40, image_shape=SHAPE)
    members = [Member.of(each) for each in settings]
    list(population.fit(program, members[:1], _splits(), "in turn"))
    before = compiled.train_steps._cache_size()  # type: ignore[attr-defined]
    list(population.fit(program, members, _splits(), "in turn"))
    assert compiled.train_steps._cache_size() == before  # type: ignore[attr-defined]


def test_members_train_together_where_the_device_holds_the_images_and_is_no_cpu() -> None:
    cpu = jax.devices("cpu")[0]
    gpu = types.SimpleNamespace(platform="gpu")
    program = Program.of(_member_settings(0, 1e-2), images=40, image_shape=SHAPE)
    for device, images, how in (
        (cpu, _images(4), "in turn"),
        (cpu, np.asarray(_images(4)), "in turn"),
        (gpu, np.asarray(_images(4)), "in turn"),
        (gpu, _images(4), "together"),
    ):
        assert population.strategy(program, [device], images)[0] == how
        if isinstance(images, jax.Array):
            assert population.strategy(program, [device, device], images)[0] == "together"
