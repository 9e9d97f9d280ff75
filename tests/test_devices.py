"""Several devices: one model, or members of a population; and several processes."""

import dataclasses
import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
import pytest

from tests import apart
from tests.conftest import Vaectl, assert_equal_runs
from tests.test_training import NOISY, SHAPE, _bytes, _images, _settings
from vaectl.base import devices, mesh, wanted
from vaectl.base.errors import ConfigError
from vaectl.config.schema import Config
from vaectl.evaluation.means import Images, Means
from vaectl.training import compiled, population
from vaectl.training.fit import Epoch, Saved, fit
from vaectl.training.program import Member, Program

IMAGES, HELD_OUT = 40, 12
EXAMPLES = Path(__file__).parent.parent / "configs" / "examples"
SMALL = ("epochs=2", "model.code_size=2", "data.train_size=200", "data.validation_size=50")
TINY: list[object] = ["--batch-size", 16, "--hidden-size", 8]
for setting in ("microbatches=8", *SMALL):
    TINY += ["--set", setting]


class _Trained(NamedTuple):
    state: list[bytes]
    train: Means
    validation: Means


def _shared(**changes: object) -> Config:
    """Settings of batches of micro-batches; the last one of an epoch is short."""
    return _settings(batch_size=32, microbatches=8, epochs=2, **changes)


def _train(
    settings: Config, devices: int, bring: Callable[..., tuple[Images, Images]] = jax.device_put
) -> list[_Trained]:
    """Train on so many devices; return the bytes of each epoch's state, and its numbers."""
    chosen = jax.devices()[:devices]
    place = mesh.everywhere(chosen)
    program = Program.of(settings, images=IMAGES, image_shape=SHAPE, devices=chosen)
    # small batches, so that several are evaluated, and not as many on each device
    estimator = dataclasses.replace(program.estimator, batch_size=4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Program, "estimator", estimator)
        member = jax.device_put(Member.of(settings), place)
        train, validation = bring(
            (np.asarray(_images(IMAGES)), np.asarray(_images(HELD_OUT, 1))), place
        )
        events = fit(program, member, Saved(compiled.init(program, member)), train, validation)
        return [
            _Trained(_bytes(event.state), event.train, event.validation)
            for event in events
            if isinstance(event, Epoch)
        ]


@pytest.mark.bits
@pytest.mark.parametrize("devices", [*(pytest.param(n, marks=pytest.mark.full) for n in (2, 8)), 4])
def test_the_bits_of_a_model_do_not_depend_on_the_number_of_devices(devices: int) -> None:
    settings = _shared(objective={"samples": 3}, model=NOISY)
    alone = _train(settings, 1)
    assert len(alone) == 2
    assert _train(settings, devices) == alone


@pytest.mark.full
def test_the_bits_stay_where_pixels_are_drawn_and_images_are_streamed() -> None:
    settings = _shared(data={"binarization": "stochastic"})
    alone = _train(settings, 1)
    assert _train(settings, 4) == alone
    assert _train(settings, 4, lambda splits, _place: splits) == alone


@pytest.mark.bits
@pytest.mark.full
def test_an_average_has_the_same_bits_on_several_devices() -> None:
    optimizer = {"name": "schedule_free_adamw", "learning_rate": 0.02}
    settings = _shared(optimizer=optimizer)
    assert _train(settings, 8) == _train(settings, 1)


@pytest.mark.bits
def test_images_in_host_memory_give_the_same_average() -> None:
    settings = _settings(optimizer={"name": "schedule_free_sgd"})
    assert _train(settings, 1, lambda splits, _place: splits) == _train(settings, 1)


def test_a_batch_of_micro_batches_is_the_same_batch() -> None:
    whole, parts = (_train(_settings(batch_size=32, microbatches=n), 1) for n in (1, 16))
    for one, other in zip(whole, parts, strict=True):
        assert other.train == pytest.approx(one.train, rel=1e-5)
        assert other.validation == pytest.approx(one.validation, rel=1e-5)


def test_running_means_are_the_means_over_micro_batches() -> None:
    parts = np.arange(8, dtype=np.float32)
    counts = np.full(8, 3, np.int32)

    def of_part(x: jax.Array, n: jax.Array) -> tuple[jax.Array, jax.Array]:
        return x / 8, n

    total, count = jax.jit(lambda *each: mesh.summed(None, of_part, *each))(parts, counts)
    assert (float(total), int(count)) == (3.5, 3)


@pytest.mark.parametrize(("microbatches", "devices"), [(8, 3), (2, 4)])
def test_parts_that_cannot_be_shared_equally_are_refused(microbatches: int, devices: int) -> None:
    settings, chosen = _settings(batch_size=16, microbatches=microbatches), jax.devices()[:devices]
    program = Program.of(settings, images=IMAGES, image_shape=SHAPE, devices=chosen)
    with pytest.raises(ConfigError, match=f"microbatches {microbatches}: {devices} devices"):
        program.check()


def test_a_batch_that_the_parts_do_not_divide_is_refused() -> None:
    settings = _settings(batch_size=10, microbatches=4)
    program = Program.of(settings, images=IMAGES, image_shape=SHAPE)
    with pytest.raises(ConfigError, match="microbatches 4: does not divide 10"):
        program.check()


# populations


def _members(seeds: Sequence[int]) -> tuple[Program, list[Member]]:
    settings = [_settings(seed=seed, epochs=2) for seed in seeds]
    program = Program.of(settings[0], images=IMAGES, image_shape=SHAPE)
    return program, [Member.of(each) for each in settings]


def _spread(count: int, members: int = 3) -> dict[tuple[int, int], tuple[list[bytes], float]]:
    """Train members over devices; return state and ELBO by member and epoch."""
    program, all_members = _members(range(members))
    chosen = jax.devices()[:count]
    images = mesh.put((_images(IMAGES), _images(HELD_OUT, 1)), mesh.everywhere(chosen))
    how, _ = population.strategy(program, chosen, images[0])
    events = population.fit(program, all_members, images, how)
    return {
        (index, event.epoch): (_bytes(event.state), event.validation["elbo"])
        for index, event, _ in events
        if isinstance(event, Epoch)
    }


@pytest.mark.parametrize("devices", [2, *(pytest.param(n, marks=pytest.mark.full) for n in (4, 8))])
def test_a_member_on_a_device_of_its_own_has_the_bits_of_one_alone(devices: int) -> None:
    alone = _spread(1)
    assert len(alone) == 6
    assert _spread(devices) == alone


def test_several_members_of_a_device_equal_those_alone_to_rounding(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    alone = _spread(1)
    monkeypatch.setattr(population, "at_once", lambda *_: 3)  # as on a GPU
    spread = _spread(2)
    assert spread.keys() == alone.keys()
    for key, (_, elbo) in spread.items():
        assert elbo == pytest.approx(alone[key][1], rel=1e-5)


# commands


@pytest.mark.bits
def test_a_run_goes_on_with_another_number_of_devices(vaectl: Vaectl) -> None:
    whole = vaectl("train", *TINY, "--name", "one", "--epochs", 4, "--device", "cpu:4")
    assert whole.code == 0
    assert vaectl("train", *TINY, "--name", "two", "--device", "cpu").code == 0
    more = vaectl("train", "--resume", "two", "--epochs", 4, "--device", "cpu:4")
    assert (more.code, "last bits may differ" in more.err) == (0, False)
    assert_equal_runs(Path("runs/one"), Path("runs/two"))


@pytest.mark.full
def test_a_study_spread_over_devices_equals_one_on_a_single_one(vaectl: Vaectl) -> None:
    command: list[object] = ["sweep", "--vary", "batch_size=20", "--seeds", "3"]
    for each in (*SMALL, "model.hidden_size=8", "data.test_size=50"):
        command += ["--set", each]
    rows = {}
    for device in ("cpu", "cpu:2"):
        done = vaectl(*command, "--device", device, "--name", device[-1])
        assert done.code == 0, done.err
        lines = Path(f"runs/{device[-1]}/curves.csv").read_text().splitlines()
        rows[device] = [line.rpartition(",")[0] for line in lines]
    assert rows["cpu"] == rows["cpu:2"]
    assert len(rows["cpu"]) == 13


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--device gpuu", "did you mean gpu?"),
        ("--device cpu:0", "'0' is no number of devices"),
        ("--device cpu:x", "'x' is no number of devices"),
        ("--device cpu:", "'' is no number of devices"),
        ("--device cpu:2", "--set microbatches=4 --batch-size 100"),
        ("--device cpu:3 --set microbatches=4", "use 2, 4, 8, ... devices"),
        ("--device cpu:8 --set microbatches=4", "--set microbatches=16 --batch-size 112"),
        ("--device cpu:9 --set microbatches=16", "JAX sees 8"),
        ("--set microbatches=3", "a power of 2"),
        ("--cluster here", "not HOST:PORT,PROCESSES,INDEX"),
        ("--cluster here:99999,2,0", "not HOST:PORT,PROCESSES,INDEX"),
        ("--cluster here:0,2,0", "not HOST:PORT,PROCESSES,INDEX"),
        ("--cluster :8476,2,0", "not HOST:PORT,PROCESSES,INDEX"),
        ("--cluster here:1,2,2", "the index 2 is none of 2 processes"),
    ],
)
def test_devices_that_cannot_be_are_refused_before_anything_is_written(
    options: str, said: str, vaectl: Vaectl
) -> None:
    done = vaectl("train", *options.split())
    assert done.code == 2
    assert said in done.err
    assert not Path("runs").exists()


def test_too_little_memory_is_told_for_micro_batches_too(
    vaectl: Vaectl, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "memory_of", lambda _device: 10**6)
    done = vaectl("train", "--set", "microbatches=4", "--device", "cpu:2")
    assert (done.code, "this run needs" in done.err) == (2, True), done.err


def test_workers_have_one_device_each(vaectl: Vaectl) -> None:
    options = "--vary batch_size=10,20 --device cpu:2 --executor processes:2"
    done = vaectl("sweep", *options.split())
    assert (done.code, "use one device each" in done.err) == (2, True)


def test_all_is_all_that_there_are() -> None:
    assert wanted.devices("gpu:all") == ("gpu", None)
    assert wanted.devices("cpu:4") == ("cpu", 4)
    assert wanted.devices("auto") == ("auto", 1)


# processes


def _process(number: int, address: str, *options: object) -> subprocess.Popen[str]:
    here = ("--device", "cpu:2", "--cluster", f"{address},2,{number}")
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    command = (*apart.QUICKLY, "train", *here, *options)
    return apart.start(*command, start_new_session=True, **pipes)


def _address() -> str:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.bits
def test_two_processes_train_one_model_to_the_bits_of_one(vaectl: Vaectl) -> None:
    address = _address()
    follower = _process(1, address)
    leader = _process(0, address, *TINY, "--name", "two", "--json")
    assert vaectl("train", *TINY, "--name", "one", "--device", "cpu").code == 0
    out, err = leader.communicate(timeout=120)
    followed = follower.communicate(timeout=120)
    assert (leader.returncode, follower.returncode) == (0, 0), (err, followed)
    assert out.startswith("{")
    assert not followed[0]
    assert_equal_runs(Path("runs/one"), Path("runs/two"))


@pytest.mark.full
@pytest.mark.usefixtures("vaectl")
def test_random_keys_of_a_model_are_refused_in_several_processes() -> None:
    """They cannot be saved there; said before anything is written."""
    address = _address()
    follower = _process(1, address)
    leader = _process(0, address, *TINY, "--set", "model.dropout=0.2", "--name", "two")
    _, err = leader.communicate(timeout=120)
    follower.communicate(timeout=120)
    assert leader.returncode == ConfigError.exit_code, err
    assert "random keys" in err
    assert not Path("runs").exists()


def test_a_process_that_fails_says_so_and_the_first_one_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    address = _address()
    plugin = ("--plugin", EXAMPLES / "conv_vae.py", "--model", "tiny_conv")
    leader = _process(0, address, *TINY[:2], "--set", "microbatches=4", *plugin, "--name", "two")
    follower = _process(1, address)
    said = follower.communicate(timeout=120)[1]
    told = leader.communicate(timeout=120)[1]
    assert (follower.returncode, "tiny_conv" in said, "--plugin" in said) == (2, True, True), said
    assert (leader.returncode, "has ended" in told) == (4, True), told
    assert '"failed"' in Path("runs/two/run.json").read_text()


@pytest.mark.full
@pytest.mark.parametrize("gone", [signal.SIGTERM, signal.SIGKILL])
def test_a_run_of_two_processes_ends_whole(gone: signal.Signals, vaectl: Vaectl) -> None:
    address = _address()
    follower = _process(1, address)
    options = (*TINY, "--name", "two", "--set", "checkpoint.every=1", "--epochs", 10**5)
    leader = _process(0, address, *options)
    while not (Path("runs/two/checkpoints").exists() and leader.poll() is None):
        time.sleep(0.1)
    time.sleep(2)
    (leader if gone is signal.SIGTERM else follower).send_signal(gone)
    _, err = leader.communicate(timeout=60)
    follower.communicate(timeout=60)
    if gone is signal.SIGTERM:
        assert (leader.returncode, follower.returncode) == (130, 0), err
    else:
        assert leader.returncode == 4
        assert "has ended" in err
    assert "Traceback" not in err
    found = re.search(r'"epoch": (\d+)', Path("runs/two/run.json").read_text())
    assert found
    reached = int(found[1]) + 1
    assert vaectl("train", "--resume", "two", "--epochs", reached, "--device", "cpu").code == 0
    once = vaectl("train", *TINY, "--name", "one", "--epochs", reached, "--device", "cpu")
    assert once.code == 0
    assert_equal_runs(Path("runs/one"), Path("runs/two"))
