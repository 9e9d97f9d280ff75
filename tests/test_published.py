"""Published results beside ours: the verdict, the command, the schedule of Burda et al."""

import json
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from tests.conftest import Vaectl
from vaectl.config import reading
from vaectl.config.published import Published, Verdict
from vaectl.optimizers._schedule import Schedule

ROOT = Path(__file__).parent.parent
FILES = sorted((ROOT / "configs" / "published").glob("*.yaml"))
SECTION = """
epochs: 2
data: {train_size: 200, validation_size: 50, test_size: 40}
model: {hidden_size: 16}
published:
  paper: Somebody 2020
  where: Table 1
  quantity: QUANTITY
  importance_samples: 7
  value: VALUE
"""


@pytest.mark.parametrize(
    ("ours", "error", "word"),
    [(-86.0, 0.3, "better"), (-87.5, 0.3, "worse"), (-86.3, 0.3, "agrees"), (-87.3, 0.3, "agrees")],
)
def test_the_verdict_is_by_two_standard_errors(ours: float, error: float, word: str) -> None:
    verdict = Verdict(-86.76, ours, error)
    assert verdict.word == word
    assert word in str(verdict)
    assert verdict.difference == pytest.approx(ours + 86.76)


def test_a_curve_without_numbers_gets_no_verdict(vaectl: Vaectl) -> None:
    ours = "{value: -104.2, standard_error: 0.3, command: vaectl train c.yaml}"
    text = SECTION.replace("QUANTITY", "elbo").replace("VALUE", f"null\n  ours: {ours}")
    Path("c.yaml").write_text(text)
    answer = vaectl("verify", "c.yaml")
    assert answer.code == 0
    assert "-104.20" in answer.out
    assert "no verdict" in answer.out
    told = json.loads(vaectl("verify", "c.yaml", "--json").out)
    assert (told["value"], told["difference"], told["verdict"]) == (None, None, None)
    assert told["ours"] == -104.2


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_config_of_a_paper_names_it_and_what_differs(file: Path, vaectl: Vaectl) -> None:
    published = reading.load(file).published
    assert published is not None
    answer = vaectl("verify", file)
    assert answer.code == 0
    assert published.paper in answer.out
    assert ("a curve" if published.value is None else f"{published.value:.2f}") in answer.out
    if published.ours is None:
        assert "not run" in answer.out
        told = json.loads(vaectl("verify", file, "--json").out)
        assert (told["ours"], told["standard_error"], told["verdict"]) == (None, None, None)
    else:
        assert f"{published.ours.value:.2f}" in answer.out
        told = json.loads(vaectl("verify", file, "--json").out)
        expected = Verdict(published.value, published.ours.value, published.ours.standard_error)
        assert told["verdict"] == expected.word


def test_the_table_of_the_manual_has_the_values_of_the_configurations() -> None:
    lines = (ROOT / "configs" / "README.md").read_text().splitlines()
    for file in FILES:
        published = reading.load(file).published
        assert published is not None
        (row,) = [line for line in lines if line.startswith("|") and f"`{file.stem}`" in line]
        values = [published.value, published.ours and published.ours.value]
        assert all(f"{value:.2f}" in row for value in values if value is not None)


@pytest.mark.parametrize("quantity", ["elbo", "log_likelihood"])
def test_a_run_is_estimated_as_the_paper_did(quantity: str, vaectl: Vaectl) -> None:
    text = SECTION.replace("QUANTITY", quantity).replace("VALUE", "-200.0")
    Path("c.yaml").write_text(text)
    assert vaectl("train", "c.yaml", "--name", "a", "-q").code == 0
    told = json.loads(vaectl("verify", "a", "--json", "-q").out)
    options = ("--importance-samples", "7" if quantity == "log_likelihood" else "0", "--json", "-q")
    found = json.loads(vaectl("evaluate", "a", "--checkpoint", "latest", *options).out)
    assert told["ours"] == pytest.approx(found[quantity]["mean"])
    assert told["standard_error"] == pytest.approx(found[quantity]["standard_error"])
    answer = vaectl("verify", "a", "-q")
    assert answer.code == 0
    assert "Somebody 2020: Table 1" in answer.out
    assert "-200.00" in answer.out
    assert "a, epoch 2 of 2" in answer.out
    # an imported model has no training here that could have an end
    assert vaectl("export", "a", "--format", "safetensors", "--checkpoint", "latest").code == 0
    assert vaectl("import", "runs/a/export/model.safetensors", "--name", "b").code == 0
    imported = vaectl("verify", "b", "-q").out
    assert imported.splitlines()[-2:] == [
        "b, imported, binarized at 0.5",
        answer.out.splitlines()[-1],
    ]
    # nothing that is computed depends on the claim
    Path("c.yaml").write_text(text.replace("Somebody", "Another"))
    assert vaectl("train", "c.yaml", "--resume", "a", "-q").code == 0


def test_pictures_that_cannot_be_shipped_are_trained_on_from_an_archive(vaectl: Vaectl) -> None:
    """Frey faces: pictures of the same shape stand in, a bright spot that moves."""
    rows, columns = np.mgrid[:28, :20]
    places = np.random.default_rng(0).uniform(5, 15, (500, 2, 1, 1))
    faces = 250 * np.exp(-((rows - places[:, 0]) ** 2 + (columns - places[:, 1]) ** 2) / 20)
    faces = faces.astype(np.uint8)
    np.savez("frey-face.npz", x_train=faces[:400], x_test=faces[400:])
    file = ROOT / "configs" / "published" / "kingma-frey.yaml"
    assert vaectl("train", file, "--epochs", "5", "--name", "a", "-q").code == 0
    told = json.loads(vaectl("verify", "a", "--json", "-q").out)
    assert (told["verdict"], told["quantity"]) == (None, "elbo")
    lines = [line.split(",") for line in Path("runs/a/metrics.csv").read_text().splitlines()]
    validation = [float(row[3]) for row in lines if row[2] == "validation"]
    assert told["ours"] > validation[0]


def test_without_a_claim_there_is_nothing_to_verify(trained_runs: Path, vaectl: Vaectl) -> None:
    answer = vaectl("verify", trained_runs / "z2")
    assert answer.code == 2
    assert "published" in answer.err
    assert vaectl("verify", "gone.yaml").code == 2
    assert vaectl("verify", "gone").code == 4
    answer = vaectl("train", "--set", "published.value=1")
    assert answer.code == 2
    assert "published.paper" in answer.err


def test_stages_triple_and_each_has_a_seventh_of_a_decade_less() -> None:
    scale = Schedule(name="tripling").scale(steps_per_epoch=2, steps=100_000)
    epochs = np.arange(3280)
    found = np.array([scale(jnp.int32(2 * epoch)) for epoch in epochs[::9]])
    stage = np.floor(np.log(2 * epochs[::9] + 1) / np.log(3) + 1e-9)
    np.testing.assert_allclose(found, 10 ** (-stage / 7), rtol=1e-5)
    assert stage.max() == 7


def test_a_run_by_stages_is_trained_further_and_equals_one_that_was_asked_for_it_at_once(
    vaectl: Vaectl,
) -> None:
    small: tuple[str, ...] = (
        "--hidden-size",
        "4",
        "--set",
        "optimizer.schedule.name=tripling",
        "-q",
    )
    small += ("--set", "data.train_size=200", "--set", "data.validation_size=20")
    assert vaectl("train", *small, "--epochs", "3", "--name", "a").code == 0
    assert vaectl("train", "--resume", "a", "--epochs", "6", "-q").code == 0
    assert vaectl("train", *small, "--epochs", "6", "--name", "b").code == 0
    rows = [Path(f"runs/{name}/metrics.csv").read_text().splitlines() for name in "ab"]
    elbos = [[line.split(",")[3] for line in each] for each in rows]
    assert elbos[0] == elbos[1]


def test_a_claim_knows_its_measure() -> None:
    claim = Published(paper="a", where="b", quantity="log_likelihood", value=-1.0)
    assert "IW-5000" in claim.measure
    assert "test" in claim.measure
