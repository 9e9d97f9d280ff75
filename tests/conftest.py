"""What all tests share: shapes checked at every call, strict dtypes, and small data."""

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from jaxtyping import install_import_hook

# shapes in signatures are checked here, and cost users nothing
install_import_hook(
    [f"vaectl.{name}" for name in ("streams", "model", "objective", "evaluation", "training")],
    "beartype.beartype",
)

import jax

MNIST = os.environ.get("VAECTL_MNIST_DIR")
needs_mnist = pytest.mark.skipif(
    MNIST is None, reason="set VAECTL_MNIST_DIR to the four IDX files of MNIST"
)


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    os.environ["VAECTL_CACHE_DIR"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture
def strict_types() -> Iterator[None]:
    """Refuse to mix types silently. Not for all tests: Optax's Adam itself mixes some."""
    with jax.numpy_dtype_promotion("strict"):
        yield


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


class Answer(NamedTuple):
    """What a command left behind."""

    code: int
    out: str
    err: str


Vaectl = Callable[..., Answer]


@pytest.fixture
def vaectl(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Vaectl:
    """Run the command line in this process, in an empty directory."""
    from vaectl import cli

    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> Answer:
        monkeypatch.setattr(sys, "argv", ["vaectl", *map(str, arguments)])
        code: object = 0
        try:
            cli.main()
        except SystemExit as exit_:
            code = exit_.code
        out, err = capsys.readouterr()
        assert code is None or isinstance(code, int)
        return Answer(code or 0, out, err)

    return run


@pytest.fixture(scope="session")
def trained_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A runs directory with two small runs: z2, and z5 which has two checkpoints."""
    from vaectl import config, experiment

    runs = tmp_path_factory.mktemp("trained") / "runs"
    for name, code, epochs in (("z2", 2, 3), ("z5", 5, 4)):
        settings = config.Config.model_validate(
            {
                "epochs": epochs,
                "data": {"train_size": 1000, "validation_size": 100, "test_size": 120},
                "model": {"code_size": code, "hidden_size": 32},
                # the rate falls to nothing in the end, so that the last epoch is not the best one
                "optimizer": {"adam": {"learning_rate": 3e-3}},
            }
        )
        experiment.run(settings, runs_dir=runs, name=name)
    return runs


@pytest.fixture
def runs(trained_runs: Path, tmp_path: Path) -> Path:
    """A copy that a test may break, where the command line finds it."""
    return Path(shutil.copytree(trained_runs, tmp_path / "runs"))
