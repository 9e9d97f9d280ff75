"""Plan, ledger and runs of a comparison, on the embedded digits."""

import csv
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
import pytest
from filelock import FileLock

import vaectl
from tests import apart
from tests.conftest import assert_equal_runs
from vaectl import data, experiment
from vaectl.base.errors import ConfigError, DataError, DivergedError, InterruptedRunError, RunError
from vaectl.base.files import Folder
from vaectl.comparison import plan, words
from vaectl.comparison.plan import Comparison
from vaectl.comparison.result import Result
from vaectl.comparison.run import run
from vaectl.comparison.summarize import summarize
from vaectl.comparison.tuning import Tuning, at_rate
from vaectl.config import documents
from vaectl.config.schema import Checkpoint
from vaectl.evaluation import assess as assessment
from vaectl.optimizers.base import Optimizer
from vaectl.profiles.plan import has_workloads
from vaectl.runs import find as runs
from vaectl.runs import trained
from vaectl.runs.checkpoints import Checkpoints
from vaectl.runs.metrics import Row
from vaectl.runs.record import Evaluation
from vaectl.studies import views
from vaectl.studies.ended import Ended, Outcome
from vaectl.studies.ledger import FOLDER, Ledger
from vaectl.training import fit as fitting
from vaectl.training import population, step
from vaectl.training.events import Event, Note, Phase, Planned, Started, Stopped, Warned
from vaectl.training.fit import Epoch
from vaectl.training.program import Member, Program

CONFIGS = Path(__file__).parent.parent / "configs" / "compare"
SMALL = [
    "epochs=2",
    "model.hidden_size=8",
    "model.code_size=2",
    "data.train_size=200",
    "data.validation_size=50",
    "data.test_size=50",
]


def _small(**options: object) -> Comparison:
    options = {"importance_samples": 2, "seeds": 2, "optimizers": ["adam", "sgd"], **options}
    return plan.load(assignments=SMALL, options=options)


def _problems(text: str, tmp_path: Path, **options: object) -> list[str]:
    file = tmp_path / "c.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError) as problem:
        plan.load(file, options=options)
    return [line.replace(f"{file}:", "line ") for line in problem.value.message.splitlines()]


def _outcomes(result: Result) -> list[Outcome]:
    return [each.ended.outcome for each in result.trials]


def _tested(result: Result) -> list[Evaluation | None]:
    return [each.tested for each in result.trials]


def test_quick_yaml_is_the_built_in_default() -> None:
    assert plan.load(CONFIGS / "quick.yaml") == Comparison()


@pytest.mark.parametrize(
    "file",
    # tests/test_profile.py tries those with workloads
    sorted(file for file in CONFIGS.glob("*.yaml") if not has_workloads(file)),
    ids=lambda file: file.stem,
)
def test_committed_comparisons_load_and_survive_being_written(file: Path, tmp_path: Path) -> None:
    assert f"vaectl compare-optimizers configs/compare/{file.name}" in file.read_text()
    settings = plan.load(file)
    copy = tmp_path / "comparison.yaml"
    copy.write_text(documents.dump(settings))
    assert plan.load(copy) == settings
    assert plan.differing(plan.load(copy), settings) == []


def test_the_base_may_be_a_file_beside_and_is_set_by_its_own_keys(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text("epochs: 7\noptimizer: {sgd: {learning_rate: 0.5}}\n")
    (tmp_path / "c.yaml").write_text("base: base.yaml\nprotocol: paper\n")
    settings = plan.load(tmp_path / "c.yaml", assignments=["model.code_size=3"])
    assert (settings.base.epochs, settings.base.model.code_size) == (7, 3)
    assert settings.entries["sgd"].optimizer.chosen.learning_rate == 0.5
    (tmp_path / "base.yaml").write_text("epoch: 7\n")
    with pytest.raises(ConfigError, match=r"base.yaml:1: unknown key base.epoch; did you mean"):
        plan.load(tmp_path / "c.yaml")


def test_the_base_may_be_a_file_and_keys_that_differ(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text("epochs: 7\nmodel: {code_size: 3, hidden_size: 9}\n")
    file = tmp_path / "c.yaml"
    file.write_text("base:\n  file: base.yaml\n  epochs: 5\n  model: {code_size: 2}\n")
    base = plan.load(file).base
    assert (base.epochs, base.model.code_size, base.model.mlp.hidden_size) == (5, 2, 9)
    # each problem at its own line
    (tmp_path / "base.yaml").write_text("\n\nseed: -1\nepochs: 7\n")
    file.write_text("base:\n  file: base.yaml\n  epochs: 0\n")
    with pytest.raises(ConfigError) as problem:
        plan.load(file)
    first, second = problem.value.message.splitlines()
    assert first.startswith(f"{file}:3: base.epochs: should be at least")
    assert second.startswith(f"{tmp_path / 'base.yaml'}:3: base.seed: should be at least")


def test_all_problems_are_told_at_once_with_their_lines(tmp_path: Path) -> None:
    text = (
        "base: {epochs: 0}\n"
        "seeds: 0\n"
        "optimizers: [adm, {name: sgd, momentun: 0.3}, {name: adam, learning_rate: .nan}]\n"
        "tuning: {learning_rates: []}\n"
    )
    assert _problems(text, tmp_path) == [
        "line 1: base.epochs: should be at least 1, not 0",
        "line 2: seeds: should be a number from 1 to 200, or a list of different seeds, not 0",
        f"line 3: optimizers.0: should be one of {', '.join(Optimizer.known)}, "
        "not 'adm'; did you mean adam?",
        "line 3: unknown key optimizers.1.momentun; did you mean momentum?",
        "line 3: optimizers.2.learning_rate: should be a finite number, not .nan",
        "line 4: tuning.learning_rates: should be a list of at least one learning rate, not []",
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("optimizers: []", "optimizers: should be a list"),
        ("optimizers: [sgd, sgd]", "optimizers: sgd comes twice"),
        ("optimizers: [{momentum: 0.5}]", "optimizers: should be a list"),
        ("optimizers: [sgd, {name: sgd, label: twin}]", "sgd and twin are the same experiment"),
        (
            "optimizers: [sgd, {name: sgd, learning_rate: 1.0, label: b}]\n"
            "tuning: {learning_rates: [1.0, 2.0]}",
            "sgd and b are the same experiment",
        ),
        (  # their grids share two points
            "optimizers: [adam, {name: adam, learning_rate: 3.0e-3, label: b}]",
            "tuning: adam and b are the same experiment at learning rate 0.003",
        ),
        (  # they meet once one of them has grown
            "optimizers: [adam, {name: adam, learning_rate: 0.243, label: b}]\ntuning: {growth: 2}",
            "tuning: adam and b are the same experiment at learning rate 0.027",
        ),
        ("tuning: {grid: 100, ratio: 1000}", "the grid of adam has a learning rate of 1e-153"),
        # all of its learning rates would be the same
        ("tuning: {ratio: 1.00001}", "tuning.ratio: should be at least 1.001"),
        ("base: gone.yaml\nseeds: 0", "line 1: base: "),
        ("base: gone.yaml\nseeds: 0", "line 2: seeds: should be a number"),
        ("seeds: [1, 1]", "seeds: should be a number from 1 to 200, or a list of different"),
        ("protocol: paper\ntuning: {grid: 3}", "tuning: the protocol paper"),
        ("seeds: [5, 1001]", "tuning: seed 1001 is one of the result's seeds"),
        ("base: gone.yaml", "gone.yaml: cannot be read"),
        ("base: 3", "base: should be a mapping of keys to values, not 3"),
    ],
)
def test_what_cannot_be_compared_is_refused(text: str, problem: str, tmp_path: Path) -> None:
    assert any(problem in line for line in _problems(text, tmp_path))


def test_optimizers_of_one_kind_are_compared_where_their_grids_never_meet() -> None:
    apart = ["adam", {"name": "adam", "learning_rate": 2e-3, "label": "b"}]
    settings = _small(optimizers=apart)
    experiments = [point.settings for points in settings.points.values() for point in points]
    assert len({*experiments}) == 6


def test_what_an_option_adds_is_told_apart_from_the_files(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("protocol: paper\noptimizers: [adam, sgdd]\nbaseline: adam\n")
    with pytest.raises(ConfigError) as error:
        plan.load(file, added=["lionn"])
    of_file, added = error.value.message.splitlines()
    assert of_file.startswith(f"{file}:2: ")
    assert added.strip().startswith("--add: ")
    assert added.endswith("not 'lionn'; did you mean lion?")
    assert [*plan.load(added=["lion"]).entries][-1] == "lion"
    with pytest.raises(ConfigError, match=r"^--add: adam comes twice"):
        plan.load(added=["adam"])
    file.write_text("protocol: paper\noptimizers: [adam]\n")
    with pytest.raises(ConfigError, match=r"c\.yaml:2 and --add: optimizers: adam comes twice"):
        plan.load(file, added=["adam"])


def test_the_paper_protocol_overrules_a_files_tuning() -> None:
    settings = plan.load(CONFIGS / "quick.yaml", options={"protocol": "paper"})
    assert (settings.protocol, settings.tuning) == ("paper", None)
    with pytest.raises(ConfigError, match="leave out tuning and --learning-rates"):
        plan.load(options={"protocol": "paper", "tuning.learning_rates": [1.0]})


def test_names_repeat_with_other_hyperparameters_which_then_make_the_label() -> None:
    settings = _small(optimizers=["sgd", {"name": "sgd", "momentum": 0.5, "clip_norm": 2.0}])
    plain, other = settings.entries.values()
    assert list(settings.entries) == ["sgd", "sgd-clip_norm-2.0-momentum-0.5"]
    # whatever others there are, so that one more optimizer renames none
    assert [*_small(optimizers=[{"name": "sgd", "momentum": 0.5}]).entries] == ["sgd-momentum-0.5"]
    assert (other.optimizer.sgd.momentum, other.optimizer.clip_norm) == (0.5, 2.0)
    assert (plain.optimizer.sgd.momentum, plain.optimizer.clip_norm) == (0.9, None)


def test_a_trial_does_not_depend_on_the_settings_of_other_optimizers() -> None:
    one, two = (
        plan.load(assignments=[*SMALL, f"optimizer.sgd.momentum={momentum}"]).entries
        for momentum in (0.1, 0.2)
    )
    keys = [
        [at_rate(e[label], 1e-3).trials(label, "result", [0])[0].key("data") for label in e]
        for e in (one, two)
    ]
    assert [a == b for a, b in zip(*keys, strict=True)] == [True, True, True, False]


def test_grids_are_alike_and_grow_where_the_best_is_at_an_edge() -> None:
    tuning = Tuning()
    assert tuning.rates(1e-3) == [3.333e-4, 1e-3, 3e-3]
    assert tuning.rates(5e-4) == [1.667e-4, 5e-4, 1.5e-3]

    def grown(scores: dict[float, float]) -> list[float]:
        return tuning.grown({(("learning_rate", rate),): score for rate, score in scores.items()})

    assert grown({1.0: -3, 3.0: -2, 9.0: -4}) == []
    assert grown({1.0: -3, 3.0: -2}) == [9.0]
    assert grown({3.0: -1, 9.0: -2, 27.0: -np.inf}) == [1.0]
    assert grown({3.0: -1}) == [1.0, 9.0]
    # where all diverged, smaller ones are next
    assert grown({3.0: -np.inf, 9.0: -np.inf}) == [1.0]
    assert grown({3.0: -np.inf}) == [1.0]
    # also if smaller ones were tried last, and diverged too
    assert grown({3.0: -np.inf, 9.0: -np.inf, 1.0: -np.inf}) == [0.3333]


def test_the_rates_of_a_grid_are_all_different() -> None:
    for around in (1e-3, 1.0005e-3, 9.9995e-3, 0.3):
        tuning = Tuning(ratio=1.001, grid=50, growth=100)
        assert len({*tuning.rates(around)}) == 50
        assert len(tuning.reach(around)) == 250


def test_learning_rates_that_look_alike_are_trained_all(tmp_path: Path) -> None:
    rates = [0.0012345678, 0.0012345679]
    settings = _small(optimizers=["adam"], tuning={"learning_rates": rates, "growth": 0})
    result = run(settings, runs_dir=tmp_path, name="c")
    (side,) = summarize(result).sides
    assert [tried.learning_rate for tried in side.tried] == rates


def test_optimizers_meet_the_same_weights_and_batches_at_a_seed() -> None:
    found = []
    for label, settings in _small(optimizers=["adam", "sgd"]).entries.items():
        trial = at_rate(settings, 1e-3).trials(label, "result", [7])[0]
        program = Program.of(trial.settings, images=200, image_shape=(28, 28, 1))
        member = Member.of(trial.settings)
        params = step.init(program, member).params
        drawn = params, step.order(program, member, 3), step.noise(program, member, 5)
        found.append([np.asarray(leaf) for leaf in jax.tree.leaves(drawn)])
    for a, b in zip(*found, strict=True):
        np.testing.assert_array_equal(a, b)


def _row(epoch: int, split: Literal["train", "validation"], nll: float) -> Row:
    return Row(epoch, 10 * epoch, split, _terms(-(nll + 1.0), 1.0, nll), 0.5)


def _terms(elbo: float, kl: float, nll: float) -> dict[str, float]:
    return {"elbo": elbo, "kl": kl, "nll": nll}


CURVE = [_row(e, split, 1 / e) for e in (1, 2) for split in ("train", "validation")]


def _ended(place: int, **update: Any) -> Ended:
    fields = {
        "key": f"{place:016x}",
        "number": place,
        "label": "adam",
        "stage": "tuning",
        "optimizer": "adam",
        "learning_rate": 1e-3,
        "seed": 0,
        "error": "",
        "rows": CURVE,
    }
    return Ended(**{**fields, **update})


def _ledger(directory: Path) -> tuple[Ledger, list[str]]:
    """A ledger, and all that it told."""
    (directory / FOLDER).mkdir(exist_ok=True)
    told: list[str] = []
    return Ledger(Folder(directory), told.append), told


def _old_table(trials: list[Ended]) -> str:
    """trials.csv as it was before trials were sealed."""
    name = "trials.csv"
    return views.text(name, trials, (views.older(name) or [views.columns(name, trials)])[0])


def test_the_ledger_reads_what_it_wrote_and_shows_it(tmp_path: Path) -> None:
    ledger, _ = _ledger(tmp_path)
    # the order is that in which they ended, whatever their keys are
    trials = [_ended(2, number=1), _ended(1, number=2, error="not finite, at once", rows=[])]
    for trial in trials:
        ledger.add(trial)
    again, told = _ledger(tmp_path)
    assert list(again.ended.values()) == trials
    assert told == []
    (tmp_path / "trials.csv").write_text(_old_table(trials))
    outcomes, curves = views.read(Folder(tmp_path), pytest.fail)
    assert list(outcomes.values()) == [trial.outcome for trial in trials]
    assert list(curves.values()) == [CURVE, []]
    assert [o.status for o in outcomes.values()] == ["finished", "diverged"]
    assert (trials[0].outcome.best_epoch, trials[0].outcome.best_elbo) == (2, -1.5)


def test_the_views_get_the_columns_of_every_trial(tmp_path: Path) -> None:
    ledger, _ = _ledger(tmp_path)
    more = [r._replace(terms={**r.terms, "gradient_norm": 2.0}) for r in CURVE]
    for place, rows in ((1, []), (2, CURVE), (3, more), (4, CURVE)):
        ledger.add(_ended(place, number=place, rows=rows, error="" if rows else "not finite"))
        with (tmp_path / "curves.csv").open(newline="") as file:
            table = list(csv.reader(file))
        assert {len(line) for line in table} == {len(table[0])}
    assert table[0][4:-1] == ["elbo", "kl", "nll", "gradient_norm"]
    assert [line[-2] for line in table[1:]] == 4 * [""] + 4 * ["2.0"] + 4 * [""]
    assert _ledger(tmp_path)[1] == []


@pytest.mark.parametrize(
    "update",
    [
        {"rows": CURVE[:-1]},
        {"rows": CURVE[2:]},
        {"rows": CURVE[:2] + CURVE},
        {"rows": [CURVE[1], CURVE[0], *CURVE[2:]]},
        {"rows": [row._replace(step=row.step + 1) for row in CURVE]},
        {"rows": [row._replace(step=-row.step) for row in CURVE]},
        {
            "rows": [
                row._replace(terms={**row.terms, "elbo": row.terms["elbo"] + 1e-9}) for row in CURVE
            ]
        },
        {"rows": [row._replace(terms=_terms(-np.inf, 1.0, np.inf)) for row in CURVE]},
        {"rows": [row._replace(seconds=-1.0) for row in CURVE]},
        {"rows": []},
        {"learning_rate": np.nan},
        {"key": "../../../../../x"},
        {"number": 0},
        {"quantity": "iwae"},
        {"files": {"run.json": "{}"}},
        {"stage": "result"},
        {"stage": "result", "files": {"config.yaml": "", "run.json": "", "../../x": ""}},
    ],
)
def test_what_no_trial_comes_to_is_not_taken_for_one(update: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="for Ended"):
        _ended(1, **update)


@pytest.mark.parametrize(
    "content", [b"key,label\na,b\n", b"\x00", b"", _old_table([]).encode() + b"\xff"]
)
def test_a_broken_table_is_named(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "trials.csv").write_bytes(content)
    with pytest.raises(RunError, match=r"trials.csv: not the trials of a comparison"):
        views.read(Folder(tmp_path), pytest.fail)


def test_a_line_that_is_no_row_is_named_and_left_out(tmp_path: Path) -> None:
    lines = _old_table([_ended(1), _ended(2)]).splitlines()
    lines.insert(2, "cut,off")
    (tmp_path / "trials.csv").write_text("\n".join(lines))
    told: list[str] = []
    outcomes, _ = views.read(Folder(tmp_path), told.append)
    assert list(outcomes.values()) == [_ended(1).outcome, _ended(2).outcome]
    assert told == [f"{tmp_path / 'trials.csv'}:3: not a row of this table: skipped"]


def _trained_seconds(result: Result) -> dict[str, float]:
    """By key; no two trainings take the same time."""
    return {outcome.key: outcome.train_seconds for outcome in _outcomes(result)}


def test_a_result_is_ordinary_runs_of_the_best_rate_on_fresh_seeds(tmp_path: Path) -> None:
    settings = _small(**{"tuning.learning_rates": [1e-3, 1e9], "tuning.growth": 0})
    result = run(settings, runs_dir=tmp_path, name="c")
    tuning = [o for o in _outcomes(result) if o.stage == "tuning"]
    assert {(o.learning_rate, o.seed) for o in tuning} == {
        (rate, seed) for rate in (1e-3, 1e9) for seed in (1000, 1001)
    }
    # Adam bounds its steps: a rate of 1e9 spoils it all the same
    assert {o.label for o in tuning if o.status == "diverged"} >= {"sgd"}
    final = [o for o in _outcomes(result) if o.stage == "result"]
    assert [(o.label, o.learning_rate, o.seed) for o in final] == [
        (label, 1e-3, seed) for label in ("adam", "sgd") for seed in (0, 1)
    ]
    result.check()  # a rate of the grid that diverges is no failure
    model = trained.load(tmp_path / "c" / "adam-s1")
    assert model.settings.seed == 1
    assert model.checkpoint.score == final[1].best_elbo
    assert [e is not None for e in _tested(result)] == [
        o.stage == "result" for o in _outcomes(result)
    ]

    # a second time repeats nothing, and another optimizer and seed run alone
    again = run(settings, runs_dir=tmp_path, name="c")
    assert _trained_seconds(again) == _trained_seconds(result)
    assert _tested(again) == _tested(result)
    # nor does it take over what somebody else asked of a run
    other = assessment.assess(model, "test", samples=3, importance_samples=0, seed=5)
    model.rundir.write_evaluation(other)
    again = run(settings, runs_dir=tmp_path, name="c")
    assert [e and e.elbo for e in _tested(again)] == [e and e.elbo for e in _tested(result)]
    more = _small(
        optimizers=["adam", "sgd", "adagrad"],
        seeds=3,
        **{"tuning.learning_rates": [1e-3, 1e9], "tuning.growth": 0},
    )
    added = _trained_seconds(run(more, runs_dir=tmp_path, name="c"))
    assert _trained_seconds(result).items() <= added.items()
    assert len(added) == len(result.trials) + 2 + 4 + 3

    changed = more.model_copy(update={"importance_samples": 3})
    with pytest.raises(ConfigError, match="other settings: importance_samples was 2, is 3"):
        run(changed, runs_dir=tmp_path, name="c")


def test_a_member_equals_the_same_run_alone(tmp_path: Path) -> None:
    settings = _small(protocol="paper", optimizers=["adam"])
    result = run(settings, runs_dir=tmp_path, name="c")
    alone = experiment.run(result.trials[1].trial.settings, runs_dir=tmp_path, name="alone")
    assert [row[:-1] for row in result.trials[1].ended.rows[-2:]] == [
        alone.train[:-1],
        alone.validation[:-1],
    ]


def test_a_diverging_member_is_named_and_the_others_go_on(tmp_path: Path) -> None:
    entries = [{"name": "sgd", "learning_rate": 1e9, "label": "wild"}, "adam"]
    result = run(_small(protocol="paper", optimizers=entries), runs_dir=tmp_path, name="c")
    assert [o.status for o in _outcomes(result)] == ["diverged"] * 2 + ["finished"] * 2
    with pytest.raises(DivergedError, match="wild, learning rate 1e\\+09, seed 0: training div"):
        result.check()
    record = vaectl.load(tmp_path / "c" / "adam-s0").rundir.read_record()
    assert record.status == "finished"


def test_a_label_that_changed_its_meaning_and_changed_back_leaves_the_right_run(
    tmp_path: Path,
) -> None:
    for b1 in (0.9, 0.5, 0.9):
        entries = [{"name": "adam", "label": "a", "b1": b1}]
        settings = _small(protocol="paper", optimizers=entries, seeds=1)
        result = run(settings, runs_dir=tmp_path, name="c")
        model = vaectl.load(tmp_path / "c" / "a-s0")
        assert model.settings == result.trials[0].trial.settings
        assert model.checkpoint.score == pytest.approx(_outcomes(result)[0].best_elbo)


def test_a_run_that_stands_in_the_way_is_moved_aside(tmp_path: Path) -> None:
    settings = _small(protocol="paper", optimizers=["sgd"], seeds=1)
    result = run(settings, runs_dir=tmp_path, name="c")
    member = runs.find("c/sgd-s0", tmp_path)
    longer = result.trials[0].trial.settings.model_copy(update={"epochs": 3})
    experiment.resume(member, longer, extend=True)
    notes: list[Event] = []
    run(settings, runs_dir=tmp_path, name="c", watch=notes.append)
    assert Warned("sgd-s0 is there, and not of a sealed trial: renamed to sgd-s0.1") in notes
    epochs = [vaectl.load(tmp_path / "c" / name).settings.epochs for name in ("sgd-s0.1", "sgd-s0")]
    assert epochs == [3, 2]


def test_a_run_that_cannot_be_moved_aside_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = _small(protocol="paper", optimizers=["sgd"], seeds=1)
    run(settings, runs_dir=tmp_path, name="c")
    for file in (tmp_path / "c" / "sgd-s0").rglob("*.[jcy]*"):  # .json, .csv, .yaml
        file.write_text("of somebody else")

    def refuse(folder: Folder, name: str, _: str) -> None:
        raise OSError(30, "Read-only file system", str(folder.path / name))

    monkeypatch.setattr(Folder, "rename", refuse)
    with pytest.raises(RunError, match="sgd-s0: cannot be written: Read-only file system"):
        run(settings, runs_dir=tmp_path, name="c")


def test_other_data_are_refused(tmp_path: Path) -> None:
    def write(seed: int) -> None:
        images = np.random.default_rng(seed).integers(0, 256, (60, 4, 4), np.uint8)
        np.savez(tmp_path / "d.npz", x_train=images, x_test=images)

    settings = plan.load(
        assignments=["epochs=1", f"data.source=npz:{tmp_path / 'd.npz'}"],
        options={"protocol": "paper", "optimizers": ["sgd"], "seeds": 1, "importance_samples": 2},
    )
    write(0)
    run(settings, runs_dir=tmp_path, name="c")
    before = (tmp_path / "c" / "trials.csv").read_bytes()
    write(1)
    with pytest.raises(DataError, match="is not the data set that sgd-s0 was trained on"):
        run(settings, runs_dir=tmp_path, name="c")
    assert (tmp_path / "c" / "trials.csv").read_bytes() == before


def test_a_damaged_member_is_named_and_the_others_are_evaluated(tmp_path: Path) -> None:
    settings = _small(protocol="paper", optimizers=["sgd"], seeds=2)
    run(settings, runs_dir=tmp_path, name="c")
    for file in (tmp_path / "c" / FOLDER).glob("*.test.json"):
        file.unlink()
    for file in (tmp_path / "c" / "sgd-s0" / "checkpoints").rglob("_METADATA"):
        file.write_bytes(b"")
    result = run(settings, runs_dir=tmp_path, name="c")
    assert [e is not None for e in _tested(result)] == [False, True]
    with pytest.raises(RunError, match=r"sgd-s0.*the checkpoint is damaged"):
        result.check()
    assert summarize(result).sides[0].test_elbo is not None


def test_more_steps_than_can_be_counted_are_refused(tmp_path: Path) -> None:
    settings = plan.load(assignments=["epochs=1000000", "batch_size=1"])
    with pytest.raises(ConfigError, match="more than 2,147,483,647 steps"):
        run(settings, runs_dir=tmp_path, name="c")
    assert not (tmp_path / "c").exists()


def test_a_search_that_ends_at_the_grids_edge_says_so(tmp_path: Path) -> None:
    rates = {"tuning.learning_rates": [1e-5, 3e-5], "tuning.growth": 0}
    result = run(_small(optimizers=["sgd"], **rates), runs_dir=tmp_path, name="c")
    summary = summarize(result)
    assert summary.sides[0].at_edge
    cells = [cell.text for column in words.details(summary) for cell in column.cells]
    assert "3e-05 (the edge of those tried)" in cells


def test_members_that_train_together_come_to_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a GPU; to rounding, since vmap multiplies matrices in batches."""
    settings = _small(protocol="paper", optimizers=["sgd"])
    in_turn = run(settings, runs_dir=tmp_path, name="a")
    monkeypatch.setattr(population, "strategy", lambda *_: ("together", ""))
    together = run(settings, runs_dir=tmp_path, name="b")
    for one, other in zip(_outcomes(in_turn), _outcomes(together), strict=True):
        assert (one.key, one.seed) == (other.key, other.seed)
        assert one.best_elbo == pytest.approx(other.best_elbo, rel=1e-5)
    for a, b in zip(_tested(in_turn), _tested(together), strict=True):
        assert a is not None
        assert b is not None
        assert a.elbo.mean == pytest.approx(b.elbo.mean, rel=1e-5)


def test_a_directory_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "thesis.txt").write_text("all of it")
    for force in (False, True):
        with pytest.raises(ConfigError, match="c is not a comparison"):
            run(_small(), runs_dir=tmp_path, name="c", force=force)
    assert (tmp_path / "c" / "thesis.txt").exists()
    with pytest.raises(ConfigError, match="--name a/b: not usable"):
        run(_small(), runs_dir=tmp_path, name="a/b")


def test_force_begins_again_but_deletes_nothing_behind_a_link(tmp_path: Path) -> None:
    settings = _small(protocol="paper", optimizers=["sgd"], seeds=1)
    result = run(settings, runs_dir=tmp_path, name="c")
    (tmp_path / "c" / ".trials.csv.abcdefgh").write_text("key,label,stage,")
    (tmp_path / "c" / "notes.txt").write_text("mine")
    again = run(settings, runs_dir=tmp_path, name="c", force=True)
    assert _trained_seconds(again) != _trained_seconds(result)
    assert not (tmp_path / "c" / ".trials.csv.abcdefgh").exists()
    assert (tmp_path / "c" / "notes.txt").read_text() == "mine"
    (tmp_path / "link").symlink_to(tmp_path / "c")
    with pytest.raises(RunError, match="link is a link"):
        run(settings, runs_dir=tmp_path, name="link", force=True)
    assert (tmp_path / "c" / "trials.csv").exists()


def test_two_processes_do_not_write_in_one_comparison(tmp_path: Path) -> None:
    (tmp_path / "c").mkdir()
    with (
        FileLock(tmp_path / "c" / ".lock"),
        pytest.raises(RunError, match="another process writes in it"),
    ):
        run(_small(), runs_dir=tmp_path, name="c")


def _rows(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(newline="") as file:
            return list(csv.DictReader(file))
    except FileNotFoundError:
        return []


@pytest.mark.full  # the suite interrupts one, and kills one that trains in other processes
def test_a_comparison_that_was_killed_continues_and_repeats_nothing(tmp_path: Path) -> None:
    settings = plan.load(
        assignments=[*SMALL, "epochs=40"],
        options={"protocol": "paper", "optimizers": ["adam", "sgd"], "importance_samples": 2},
    )
    (tmp_path / "c.yaml").write_text(documents.dump(settings))
    process = apart.start(
        *("-m", "vaectl", "compare-optimizers", "c.yaml", "--name", "c"),
        cwd=tmp_path,
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    table = tmp_path / "runs" / "c" / "trials.csv"
    deadline = time.monotonic() + 120
    while len(_rows(table)) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=60)
    before = _rows(table)
    assert 2 <= len(before) < 10
    run(settings, runs_dir=tmp_path / "runs", name="c")
    after = _rows(table)
    # the times too: had one run again, they would differ
    assert after[: len(before)] == before
    assert len(after) == len({row["key"] for row in after}) == 10
    assert len(_rows(table.with_name("curves.csv"))) == 10 * 40 * 2


def test_progress_is_told_over_all_members(tmp_path: Path) -> None:
    settings = _small(**{"tuning.learning_rates": [1e-3, 1e9], "tuning.growth": 0})
    events: list[Event] = []
    run(settings, runs_dir=tmp_path, name="c", watch=events.append)
    # two optimizers, each with 2 rates at 2 seeds and a result at 2 seeds, 2 epochs each
    assert {event for event in events if isinstance(event, Planned)} == {Planned(12, 24)}
    notes = [event.text for event in events if isinstance(event, Note)]
    assert any("grid does not grow, since tuning.growth is 0: 0.001 is best" in n for n in notes)
    begun = [event.member for event in events if isinstance(event, Started)]
    ended = [event.member for event in events if isinstance(event, Stopped)]
    assert begun == ended
    assert len({*begun}) == 12
    epochs = [(event.member, event.epoch) for event in events if isinstance(event, Epoch)]
    trained = [member for member in begun if "1e+09" not in member]
    assert epochs == [(member, epoch) for member in trained for epoch in (1, 2)]
    diverged = {event.member for event in events if isinstance(event, Stopped) and event.error}
    assert diverged == {*begun} - {*trained}

    # what is there counts as done
    more = settings.model_copy(update={"seeds": [0, 1, 2]})
    events.clear()
    run(more, runs_dir=tmp_path, name="c", watch=events.append)
    assert {event for event in events if isinstance(event, Planned)} == {Planned(14, 28)}
    assert len([event for event in events if isinstance(event, Started)]) == 2
    assert len({event.member for event in events if isinstance(event, Stopped)}) == 14
    # and what is left is estimated, although all searches are done
    notes = [event.text for event in events if isinstance(event, Note)]
    assert any("2 members to train: 4 epochs" in note for note in notes)
    events.clear()
    run(more, runs_dir=tmp_path, name="c", watch=events.append)
    assert not any(isinstance(event, Note) and "to train" in event.text for event in events)


def test_a_grid_that_grows_adds_to_what_is_to_come(tmp_path: Path) -> None:
    rates = {"tuning.learning_rates": [1e-5, 3e-5], "tuning.growth": 1}
    settings = _small(optimizers=["sgd"], **rates)
    events: list[Event] = []
    run(settings, runs_dir=tmp_path, name="c", watch=events.append)
    assert [event.members for event in events if isinstance(event, Planned)] == [6, 8]
    assert len({event.member for event in events if isinstance(event, Stopped)}) == 8


def test_members_are_listed_with_the_runs_and_are_not_the_latest(tmp_path: Path) -> None:
    run(_small(protocol="paper", optimizers=["sgd"], seeds=2), runs_dir=tmp_path, name="c")
    names = [row.name for row in runs.summaries(tmp_path)]
    assert names == ["c/sgd-s0", "c/sgd-s1"]
    assert [row.name for row in runs.summaries(tmp_path, "c/*1")] == ["c/sgd-s1"]
    assert runs.find("c/sgd-s1", tmp_path).path == tmp_path / "c" / "sgd-s1"
    with pytest.raises(RunError, match="no runs in it"):
        runs.find("latest", tmp_path)


def test_ctrl_c_keeps_what_is_done(tmp_path: Path) -> None:
    def press(event: object) -> None:
        if isinstance(event, Note) and "best validation" in event.text:
            raise KeyboardInterrupt

    settings = _small(protocol="paper")
    with pytest.raises(InterruptedRunError, match="interrupted; trials that are done: 1"):
        run(settings, runs_dir=tmp_path, name="c", watch=press)
    before = _rows(tmp_path / "c" / "trials.csv")
    assert len(before) == 1
    run(settings, runs_dir=tmp_path, name="c")
    assert _rows(tmp_path / "c" / "trials.csv")[:1] == before


def test_a_member_that_was_cut_off_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    def press(event: object) -> None:
        if isinstance(event, Started):
            began.append(event.step)
        if isinstance(event, Epoch):
            (tmp_path / "c" / "sgd-s0" / "mine.txt").write_text("mine")
            raise KeyboardInterrupt

    began: list[int] = []
    settings = _small(protocol="paper", optimizers=["sgd"], seeds=1, **{"base.epochs": 4})
    for epoch in range(3):
        with pytest.raises(InterruptedRunError, match="interrupted; trials that are done: 0"):
            run(settings, runs_dir=tmp_path, name="c", watch=press)
        (summary,) = runs.summaries(tmp_path, "c/sgd-s0")
        assert (summary.status, summary.epoch) == ("interrupted", epoch + 1)
    told: list[Event] = []
    sooner = settings.base.model_copy(update={"checkpoint": Checkpoint(every=1)})
    settings = settings.model_copy(update={"base": sooner})  # how often it is saved may change
    found = run(settings, runs_dir=tmp_path, name="c", watch=told.append)
    found.check()
    began += [event.step for event in told if isinstance(event, Started)]
    assert began == [steps * epoch for epoch in range(4) if (steps := began[1])]
    assert not [event.text for event in told if isinstance(event, Warned)]
    assert (tmp_path / "c" / "sgd-s0" / "mine.txt").read_text() == "mine"
    whole = run(settings, runs_dir=tmp_path, name="whole")
    # unrounded, as what is published of it
    for ours, theirs in zip(found.trials[0].ended.rows, whole.trials[0].ended.rows, strict=True):
        assert ours._replace(seconds=0) == theirs._replace(seconds=0)
    assert_equal_runs(tmp_path / "c" / "sgd-s0", tmp_path / "whole" / "sgd-s0")


@pytest.mark.parametrize("damage", ["checkpoints", "curve.jsonl", "config.yaml", "run.json"])
def test_a_member_that_was_cut_off_and_cannot_go_on_is_trained_from_the_beginning(
    damage: str, tmp_path: Path
) -> None:
    def press(event: object) -> None:
        if isinstance(event, Epoch):
            raise KeyboardInterrupt

    settings = _small(protocol="paper", optimizers=["sgd"], seeds=1)
    with pytest.raises(InterruptedRunError):
        run(settings, runs_dir=tmp_path, name="c", watch=press)
    place = tmp_path / "c" / "sgd-s0" / damage
    if damage == "checkpoints":
        shutil.rmtree(place)
    elif damage == "config.yaml":
        place.write_text(place.read_text().replace("weight_decay: 0.0", "weight_decay: 0.5"))
        assert "weight_decay: 0.5" in place.read_text()
    else:
        content = place.read_bytes()
        place.write_bytes(content[: len(content) // 2])
    told: list[Event] = []
    run(settings, runs_dir=tmp_path, name="c", watch=told.append).check()
    assert [event.step for event in told if isinstance(event, Started)] == [0]
    assert any("sgd-s0 was cut off" in event.text for event in told if isinstance(event, Warned))
    assert vaectl.load(tmp_path / "c" / "sgd-s0").checkpoint.epoch == 2
    assert not (tmp_path / "c" / "sgd-s0" / "curve.jsonl").exists()


@pytest.mark.parametrize("rate", [1e-3, 1e9])
def test_a_run_that_ended_before_its_trial_was_sealed_ends_once_more(
    rate: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = _small(
        protocol="paper", optimizers=[{"name": "sgd", "learning_rate": rate}], seeds=1
    )

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "add", killed)
        with pytest.raises(InterruptedRunError):
            run(settings, runs_dir=tmp_path, name="c")
    told: list[Event] = []
    found = run(settings, runs_dir=tmp_path, name="c", watch=told.append)
    assert not [event.text for event in told if isinstance(event, Warned)]
    if rate < 1:  # all of it had been trained
        assert not [event for event in told if isinstance(event, Epoch)]
    whole = run(settings, runs_dir=tmp_path, name="whole")
    assert found.trials[0].ended.error == whole.trials[0].ended.error
    for ours, theirs in zip(found.trials[0].ended.rows, whole.trials[0].ended.rows, strict=True):
        assert ours._replace(seconds=0) == theirs._replace(seconds=0)
    (left,) = (tmp_path / "c").glob("sgd-*")
    assert not (left / "curve.jsonl").exists()


def test_a_member_whose_last_save_fails_is_an_error_and_not_sealed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RunError("the disk is full", hint="")

    monkeypatch.setattr(Checkpoints, "save", fail)
    diverging = _small(
        protocol="paper", optimizers=[{"name": "sgd", "learning_rate": 1e-2}], seeds=1
    )

    def diverge(*_: object, **__: object) -> None:
        raise DivergedError("it diverged", hint="")

    real = fitting.check_held_out
    monkeypatch.setattr(fitting, "check_held_out", lambda *a: diverge() if a[3] == 2 else real(*a))
    with pytest.raises(RunError, match="the disk is full"):
        run(diverging, runs_dir=tmp_path, name="c")
    assert not list((tmp_path / "c" / FOLDER).glob("*.json"))


def test_a_signal_at_the_end_of_a_trial_does_not_cost_it(tmp_path: Path) -> None:
    def press(event: object) -> None:
        if isinstance(event, Epoch) and event.epoch == 2:
            os.kill(os.getpid(), signal.SIGINT)

    settings = _small(protocol="paper")
    with pytest.raises(InterruptedRunError, match="interrupted; trials that are done: 1"):
        run(settings, runs_dir=tmp_path, name="c", watch=press)


def test_a_signal_ends_the_evaluation_on_the_test_split(tmp_path: Path) -> None:
    """It may take minutes."""

    def press(event: object) -> None:
        if isinstance(event, Phase) and "on the test split" in event.text:
            signal.raise_signal(signal.SIGTERM)

    settings = _small(protocol="paper", optimizers=["adam"], seeds=1)
    with pytest.raises(InterruptedRunError, match="interrupted; trials that are done: 1"):
        run(settings, runs_dir=tmp_path, name="c", watch=press)
    assert not list((tmp_path / "c" / FOLDER).glob("*.test.json"))


def test_data_of_another_content_make_other_trials() -> None:
    settings = _small().entries["adam"]
    trial = at_rate(settings, 1e-3).trials("adam", "result", [0])[0]
    fingerprint = data.load(settings.data).fingerprint
    assert not {*trial.keys(fingerprint)} & {*trial.keys("another")}


def test_a_plug_of_a_file_counts_with_that_file(monkeypatch: pytest.MonkeyPatch) -> None:
    from vaectl.base import plugins
    from vaectl.config import Config
    from vaectl.studies import identity

    keys = {identity.key(Config(), "f")}
    for digit in "12":
        origin = plugins.Origin("mine.py", 64 * digit)
        monkeypatch.setattr(
            plugins, "origin", lambda plug, o=origin: o if plug.kind == "model" else None
        )
        keys.add(identity.key(Config(), "f"))
    assert len(keys) == 3


@pytest.mark.parametrize(
    ("activation", "key"), [("tanh", "04e4d0e13eca7ab7"), ("relu", "5ba0d5971ba83b0a")]
)
def test_a_default_that_has_changed_changes_no_key(
    activation: str, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The keys of the version in which tanh was the default."""
    from vaectl.base import surroundings
    from vaectl.config import Config
    from vaectl.studies import identity

    monkeypatch.setattr(surroundings, "recorded", dict)
    settings = Config.model_validate({"model": {"activation": activation}})
    assert identity.key(settings, "f") == key
