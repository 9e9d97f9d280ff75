"""Runs that need more memory than there is."""

import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from tests.conftest import Vaectl
from vaectl import config, data
from vaectl.base import devices, memory
from vaectl.base.errors import ConfigError
from vaectl.evaluation import assess, diagnose
from vaectl.training import footprint
from vaectl.training.program import Program

SHAPE = (28, 28, 1)


def _bytes(**changes: object) -> int:
    settings = config.Config.model_validate(changes)
    return footprint.of_training(Program.of(settings, images=1000, image_shape=SHAPE), 1000)


@pytest.mark.parametrize(
    ("assignments", "size", "key"),
    [
        (("model.hidden_size=1000000", "model.code_size=100000"), "TiB", "model.hidden_size"),
        pytest.param(
            *(("model.hidden_size=1000000",), "GiB", "model.hidden_size"), marks=pytest.mark.full
        ),
        (("objective.samples=100000",), "GiB", "objective.samples"),
        (("objective.samples=1000", "batch_size=10000000"), "GiB", "batch_size"),
    ],
)
def test_a_run_that_does_not_fit_is_refused_with_the_estimate_and_leaves_nothing(
    assignments: tuple[str, ...],
    size: str,
    key: str,
    vaectl: Vaectl,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(memory, "total", lambda: 16 * 2**30)
    put = jax.device_put

    def put_numbers(tree: Any, *arguments: Any, **options: Any) -> Any:
        assert not any(np.ndim(leaf) for leaf in jax.tree.leaves(tree)), "before the estimate"
        return put(tree, *arguments, **options)

    monkeypatch.setattr(jax, "device_put", put_numbers)
    code, out, err = vaectl("train", "-q", *(f"--set={text}" for text in assignments))
    assert (code, out) == (2, "")
    assert err.startswith("error: this run needs about ")
    assert f" {size} of memory" in err
    assert "16.0 GiB" in err
    assert f"\ntry:   lower {key}\n" in err
    assert not Path("runs").exists()


def test_the_key_to_lower_is_the_one_that_helps_most(
    vaectl: Vaectl, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "total", lambda: 20 * 2**20)
    answer = vaectl("train", "-q", "--batch-size", 4000, "--hidden-size", 4)
    dataset = data.load(config.Data())
    settings = config.Config.model_validate({"batch_size": 4000, "model": {"hidden_size": 4}})
    program = Program.of(settings, images=len(dataset.train.images), image_shape=SHAPE)
    need = footprint.of_training(program, len(dataset.validation.images)) / 2**20
    assert 4 * 4 * 784 * program.batch_size / 2**20 < need < 80
    assert f" {need:.1f} MiB of memory" in answer.err
    assert "20.0 MiB" in answer.err
    assert answer.err.endswith("\ntry:   lower batch_size\n")


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (("evaluate", "z2", "--samples", "9"), "--samples 9: this needs about"),
        (("sample", "z2"), "100 images at once: this needs about"),
        (("inspect", "z2"), "120 images at once: this needs about"),
    ],
)
def test_what_looks_at_a_run_is_refused_too(
    command: tuple[str, ...],
    message: str,
    vaectl: Vaectl,
    runs: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert runs.is_dir()
    monkeypatch.setattr(devices, "memory_of", lambda _: 2**18)
    code, out, err = vaectl(*command)
    assert (code, out) == (2, "")
    assert err.startswith(f"error: {message}")
    assert "256.0 KiB" in err


@pytest.mark.parametrize("command", ["evaluate", "diagnose"])
def test_samples_that_do_not_fit_are_refused_before_anything_is_computed(
    command: str, vaectl: Vaectl, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert runs.is_dir()
    for module, name in ((assess, "likelihoods"), (diagnose, "likelihoods")):
        monkeypatch.setattr(module, name, lambda *_, **__: pytest.fail("it was computed first"))
    monkeypatch.setattr(memory, "total", lambda: 200 * 2**20)
    code, out, err = vaectl(command, "z2", "--prior-samples", 100_000)
    assert (code, out) == (2, "")
    assert err.startswith("error: 100,000 images at once: this needs about 299.1 MiB of memory")


def test_the_memory_of_a_device_of_its_own_is_what_counts() -> None:
    class Gpu:
        def memory_stats(self) -> dict[str, int]:
            return {"bytes_limit": 100}

    assert devices.memory_of(Gpu()) == 100
    assert devices.memory_of(jax.devices("cpu")[0]) == memory.total()


def test_weights_count_with_optimizer_gradient_and_best_copy() -> None:
    """SGD has one slot and Adam two, which the best copy doubles."""
    model = {"hidden_size": 2000}
    weights = 4 * (784 * 2000 + 2000 + 2000 * 40 + 40 + 20 * 2000 + 2000 + 2000 * 784 + 784)
    adam = _bytes(model=model)
    assert adam - _bytes(model=model, optimizer={"name": "sgd"}) == pytest.approx(
        2 * weights, rel=1e-3
    )
    # the state and its copy; the largest gradients, for the memory of one serves the next
    assert adam > 6 * weights + 4 * 784 * 2000


@pytest.mark.parametrize("samples", [10, 1000])
def test_what_many_samples_decode_to_counts_in_validation_too(samples: int) -> None:
    """XLA fuses these products on a CPU, and does not count what they allocate as they run."""
    decoded = 4 * samples * 1000 * (500 + 784)
    assert _bytes(objective={"samples": samples}) > decoded


MEASURE = r"""
import re
from pathlib import Path
from typing import Any
import jax
import jax.numpy as jnp
from vaectl import config
from vaectl.evaluation import means as evaluation
from vaectl.training import compiled, footprint
from vaectl.training.program import Member, Program

settings = config.Config.model_validate({settings})
program = Program.of(settings, images=1000, image_shape=(28, 28, 1))
member = Member.of(settings)
images = jnp.zeros((1000, 784), jnp.uint8)
state = jax.eval_shape(lambda: compiled.init(program, member))
weights = compiled.weights.lower(program, member).compile()
begin = compiled.begin.lower(program, member, state.params).compile()
steps = compiled.train_steps.lower(program, member, state, images, 0, 1).compile()
sums = evaluation.compiled_sums.lower(
    program.estimator, state.params, images, member.seed, 0, 0.0, 0, 1000
).compile()

def peak():
    # not ru_maxrss, which a process inherits
    return 1024 * int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1])

before = peak()
state = begin(member, weights(member))
best = jax.tree.map(jnp.copy, state)
state, _ = steps(member, state, images, 0, 2)
jax.block_until_ready(sums(state.params, images, member.seed, 0, 0.0, 0, 1000))
print((peak() - before) / footprint.of_training(program, 1000))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux tells")
@pytest.mark.parametrize(
    "settings",
    [
        pytest.param({"model": {"hidden_size": 8000}}, marks=pytest.mark.full),
        pytest.param(
            {"batch_size": 1000, "objective": {"samples": 10}, "model": {"hidden_size": 20}},
            marks=pytest.mark.full,
        ),
        {"batch_size": 10, "objective": {"samples": 100}},
    ],
    ids=["wide", "many logits", "many samples"],
)
def test_the_estimate_is_about_what_a_process_grows_by(settings: dict[str, object]) -> None:
    code = MEASURE.replace("{settings}", repr(settings))
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout
    assert 0.5 < float(out) < 1.3


@pytest.mark.parametrize(
    ("line", "folder", "limit"),
    [
        ("0::/a/b", "sys/fs/cgroup/a", "memory.max"),
        ("7:memory:/a/b", "sys/fs/cgroup/memory/a", "memory.limit_in_bytes"),
    ],
)
def test_a_machine_has_memory_and_a_container_less(
    line: str, folder: str, limit: str, tmp_path: Path
) -> None:
    assert 2**28 < memory.total() < 2**50
    (tmp_path / "proc" / "self").mkdir(parents=True)
    (tmp_path / "proc" / "self" / "cgroup").write_text(f"3:cpu:/\n{line}\n")
    (tmp_path / folder / "b").mkdir(parents=True)
    (tmp_path / folder / "b" / limit).write_text("max\n")
    (tmp_path / folder / limit).write_text("12345678\n")
    assert memory.total(tmp_path) == 12345678


def test_images_are_streamed_to_a_device_that_holds_all_but_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = config.Config.model_validate({"model": {"hidden_size": 8}})
    program = Program.of(settings, images=200_000, image_shape=SHAPE)
    cpu = jax.devices("cpu")[0]
    gpu = types.SimpleNamespace(platform="gpu")
    for device, there, streamed in ((gpu, 2**30, False), (gpu, 2**27, True), (cpu, 2**30, False)):
        monkeypatch.setattr(devices, "memory_of", lambda _, there=there: there)
        assert footprint.check_training(program, 1000, device) is streamed
    for device, there in ((gpu, 2**26), (cpu, 2**27)):
        monkeypatch.setattr(devices, "memory_of", lambda _, there=there: there)
        with pytest.raises(ConfigError, match="needs about 15"):
            footprint.check_training(program, 1000, device)
