"""No file of a comparison is taken on trust: edits change nothing that is published, or are named.

Nothing that is published may change without a word, whatever is edited, damaged or deleted.
"""

import csv
import json
import shutil
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.apart import draw_nothing
from tests.conftest import Answer, Happened, Vaectl, few
from tests.edits import (
    COMMAND,
    NEXT,
    NOTHING_NEW,
    SETTINGS,
    C,
    drill,
    numbers,
    published,
    swap,
    untimed,
)
from vaectl.base import seals
from vaectl.base.errors import DivergedError
from vaectl.evaluation import assess as assessment
from vaectl.runs.directory import RunDir
from vaectl.runs.record import Evaluation
from vaectl.runs.trained import Trained
from vaectl.studies.ended import FORMAT_VERSION

OLD = Path(__file__).parent / "formats" / "comparison-1.tar.gz"


@pytest.fixture(autouse=True)
def _quick_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """To draw takes two seconds, each time."""
    draw_nothing(monkeypatch.setattr)


@pytest.fixture
def again(finished: Path, vaectl: Vaectl) -> Callable[[], Answer]:
    """Give the command once more; the comparison lies in the working directory."""
    Path("c.yaml").write_text(SETTINGS)
    shutil.copytree(finished, C)
    return lambda: vaectl(*COMMAND)


def _sealed(label: str, stage: str, seed: int | None = None) -> Path:
    """The sealed file of a trial, the first one that fits."""
    for file in sorted((C / "trials").glob("*[0-9a-f].json")):
        trial = json.loads(file.read_text())
        same = (trial["label"], trial["stage"], trial["learning_rate"]) == (label, stage, 1e-3)
        if same and seed in (None, trial["seed"]):
            return file
    raise AssertionError((label, stage))


def _seal_again(file: Path, **update: object) -> None:
    fields = {**json.loads(file.read_text()), **update}
    del fields["seal"]
    file.write_text(json.dumps(seals.sealed(fields)))


def test_the_same_command_says_nothing_and_changes_no_byte_of_what_ispublished(
    again: Callable[[], Answer], finished: Path
) -> None:
    code, _, err = again()
    assert (code, untimed(err)) == (0, NOTHING_NEW)
    assert published(C) == published(finished)


def _edit_a_number(file: Path) -> None:
    lines = file.read_text().splitlines()
    at = next(i for i, line in enumerate(lines) if ",result," in line or ",validation," in line)
    lines[at] = lines[at].replace("-5", "-3")
    file.write_text("\n".join(lines) + "\n")


VIEW_EDITS: dict[str, Callable[[Path], object]] = {
    "a number": _edit_a_number,
    "gone": Path.unlink,
    "cut inside a line": lambda file: file.write_bytes(file.read_bytes()[:-20]),
    "a row twice": lambda file: file.write_text(
        file.read_text() + file.read_text().splitlines()[-1] + "\n"
    ),
    "a status": lambda file: file.write_text(
        file.read_text().replace("finished", "diverged").replace("validation", "train")
    ),
    "no text": lambda file: file.write_bytes(b"\xff\xfe\x00"),
    "empty": lambda file: file.write_bytes(b""),
}


@pytest.mark.parametrize("name", ["trials.csv", "curves.csv"])
@pytest.mark.parametrize("edit", few(VIEW_EDITS))
def test_a_table_is_made_again_from_the_sealed_trials(
    name: str, edit: str, again: Callable[[], Answer], finished: Path
) -> None:
    VIEW_EDITS[edit](C / name)
    code, _, err = again()
    assert code == 0
    assert f"runs/c/{name}: " in err
    assert ": made again from runs/c/trials\n" in err
    assert published(C) == published(finished)


def test_a_table_that_a_kill_left_behind_is_caught_up_without_a_word(
    again: Callable[[], Answer], finished: Path
) -> None:
    for name in ("trials.csv", "curves.csv"):
        lines = (C / name).read_text().splitlines(keepends=True)
        (C / name).write_text("".join(lines[:-1]))
    assert untimed(again().err) == NOTHING_NEW
    assert published(C) == published(finished)


def test_an_edited_evaluation_of_a_member_is_notpublished(
    again: Callable[[], Answer], finished: Path
) -> None:
    file = C / "sgd-s0" / "evaluation.json"
    file.write_text(file.read_text().replace("-5", "-1"))
    assert again().code == 0
    assert published(C) == published(finished)


@pytest.mark.parametrize("name", ["config.yaml", "run.json", "metrics.csv", "checkpoints/4.json"])
@pytest.mark.parametrize("edit", few(["changed", "gone", "a line twice"]))
def test_a_small_file_of_a_member_is_made_again(
    name: str, edit: str, again: Callable[[], Answer], finished: Path
) -> None:
    file = C / "sgd-s1" / name
    if edit == "gone":
        file.unlink()
    elif edit == "changed":
        file.write_text(file.read_text().replace("1", "2"))
    else:  # in JSON the same values
        first, line, *rest = file.read_text().splitlines(keepends=True)
        file.write_text("".join([first, line, line, *rest]))
    code, _, err = again()
    key = _sealed("sgd", "result", 1)
    assert code == 0
    assert f"{file}: changed or gone: made again from {key}\n" in err
    assert file.read_bytes() == (finished / "sgd-s1" / name).read_bytes()
    assert published(C) == published(finished)


def test_all_small_files_gone_are_made_again(again: Callable[[], Answer], finished: Path) -> None:
    for name in ("config.yaml", "run.json", "metrics.csv"):
        (C / "sgd-s1" / name).unlink()
    assert again().code == 0
    assert not (C / "sgd-s1.1").exists()
    assert published(C) == published(finished)


@pytest.mark.parametrize("edit", ["damaged", "gone"])
def test_a_damaged_checkpoint_is_told_every_time_and_what_was_sealed_stays(
    edit: str, again: Callable[[], Answer], finished: Path
) -> None:
    checkpoint = C / "adam-s0" / "checkpoints" / "4"
    if edit == "gone":
        shutil.rmtree(checkpoint)
    else:
        (checkpoint / "_METADATA").write_bytes(b"")
    for _ in range(2):
        code, _, err = again()
        assert code == 4
        assert f"error: {checkpoint}: the checkpoint is {edit}" in err
        assert "remove that run, and the same command trains it again\n" in err
        assert published(C) == published(finished)
    shutil.rmtree(C / "adam-s0")
    code, _, err = again()
    assert code == 0
    assert "runs/c/adam-s0: gone: adam, learning rate 0.001, seed 0 is trained again\n" in err
    assert numbers(C) == numbers(finished)
    assert untimed(again().err) == NOTHING_NEW


def _flip_status(file: Path) -> None:
    file.write_text(file.read_text().replace('"error": ""', '"error": "x"'))


def _other_stage(file: Path) -> None:
    stage = json.loads(file.read_text())["stage"]
    _seal_again(file, stage={"tuning": "result", "result": "tuning"}[stage])


SEALED_EDITS: dict[str, Callable[[Path], object]] = {
    "a digit": lambda file: file.write_text(file.read_text().replace("-5", "-3", 1)),
    "a status": _flip_status,
    "cut": lambda file: file.write_bytes(file.read_bytes()[:100]),
    "empty": lambda file: file.write_bytes(b""),
    "nested": lambda file: file.write_text("[" * 100_000),
    "no text": lambda file: file.write_bytes(b"\xff\x00"),
    # by somebody who seals it again
    "diverged": lambda file: _seal_again(file, error="it diverged"),
    "other seed": lambda file: _seal_again(file, seed=77),
    "other rate": lambda file: _seal_again(file, learning_rate=0.5),
    "other optimizer": lambda file: _seal_again(file, optimizer="rmsprop"),
    "other stage": _other_stage,
    "half the rows": lambda file: _seal_again(file, rows=json.loads(file.read_text())["rows"][:2]),
    "NaN": lambda file: _seal_again(file, rows=[[1, 2, "train", *[float("nan")] * 4]]),
    "no files": lambda file: _seal_again(file, files={"config.yaml": ""}),
}


@pytest.mark.parametrize(
    ("edit", "stage"),
    [
        *few((edit, "result") for edit in SEALED_EDITS),
        *few((edit, "tuning") for edit in ("a digit", "cut", "other seed", "other stage")),
    ],
)
def test_a_trial_that_is_not_what_was_sealed_is_trained_again(
    edit: str, stage: str, again: Callable[[], Answer], finished: Path
) -> None:
    file = _sealed("sgd", stage)
    SEALED_EDITS[edit](file)
    code, _, err = again()
    assert code == 0, err
    assert f"{file}: " in err
    assert "trained again" in err
    if ": not of sgd" in err:  # that is all that there is to say
        assert err.count(f"{file}: ") == 1
    assert numbers(C) == numbers(finished)
    assert untimed(again().err) == NOTHING_NEW


def test_a_trial_that_is_sealed_again_with_another_curve_than_its_runs_is_trained_again(
    again: Callable[[], Answer], finished: Path
) -> None:
    file = _sealed("sgd", "result")
    rows = json.loads(file.read_text())["rows"]
    for update in ({"rows": [], "error": "at once"}, {"rows": [_better(*row) for row in rows]}):
        _seal_again(file, **update)
        code, _, err = again()
        assert code == 0
        assert f"{file}: damaged or changed" in err
        assert numbers(C) == numbers(finished)


def _better(
    epoch: int, step: int, split: str, terms: dict[str, float], seconds: float
) -> list[object]:
    better = {"elbo": terms["elbo"] + 100, "kl": terms["kl"], "nll": terms["nll"] - 100}
    return [epoch, step, split, better, seconds]


def test_sealed_trials_of_before_terms_had_names_are_read(
    again: Callable[[], Answer], finished: Path
) -> None:
    for file in (C / "trials").glob("*[0-9a-f].json"):
        rows = json.loads(file.read_text())["rows"]
        of_before = [[*place, *terms.values(), seconds] for *place, terms, seconds in rows]
        assert rows == [] or len(of_before[0]) == 7
        _seal_again(file, rows=of_before)
    assert untimed(again().err) == NOTHING_NEW
    assert published(C) == published(finished)


@pytest.mark.parametrize("stage", ["tuning", "result"])
def test_a_sealed_trial_that_is_gone_is_named(
    stage: str, again: Callable[[], Answer], finished: Path
) -> None:
    file = _sealed("sgd", stage)
    file.unlink()
    code, _, err = again()
    assert code == 0
    assert f"{file}: gone: sgd, learning rate 0.001" in err
    assert numbers(C) == numbers(finished)


def test_sealed_trials_that_changed_places_are_noticed(
    again: Callable[[], Answer], finished: Path
) -> None:
    one, other = _sealed("sgd", "result", 0), _sealed("adam", "result", 0)
    swap(one, other)
    code, _, err = again()
    assert code == 0
    assert f"{one}: damaged or changed" in err
    assert f"{other}: damaged or changed" in err
    assert numbers(C) == numbers(finished)


@pytest.mark.parametrize("edit", ["a digit", "gone", "sealed again", "not finite"])
def test_an_evaluation_on_the_test_split_is_sealed_and_made_again(
    edit: str, again: Callable[[], Answer], finished: Path
) -> None:
    trial = _sealed("sgd", "result", 0)
    file = trial.with_suffix(".test.json")
    evaluation = json.loads(file.read_text())["evaluation"]
    if edit == "gone":
        file.unlink()
    elif edit == "a digit":
        file.write_text(file.read_text().replace("-5", "-3"))
    elif edit == "not finite":
        elbo = {"mean": float("nan"), "standard_error": 1.0}
        _seal_again(file, evaluation={**evaluation, "elbo": elbo})
    else:
        _seal_again(file, evaluation={**evaluation, "seed": 3})
    code, _, err = again()
    assert code == 0
    assert "evaluating sgd-s0 on the test split" in err
    assert numbers(C) == numbers(finished)


def test_a_broken_evaluation_of_a_member_hinders_nothing(
    again: Callable[[], Answer], finished: Path
) -> None:
    _sealed("sgd", "result", 0).with_suffix(".test.json").unlink()
    (C / "sgd-s0" / "evaluation.json").write_text("{")
    code, _, err = again()
    assert code == 0
    assert (
        "runs/c/sgd-s0/evaluation.json: it was changed, is damaged, or is not of this vaectl\n"
        in err
    )
    assert numbers(C) == numbers(finished)


def test_a_trial_of_a_newer_format_is_not_trained_over(again: Callable[[], Answer]) -> None:
    file = _sealed("sgd", "result")
    _seal_again(file, format_version=FORMAT_VERSION + 1)
    before = file.read_bytes()
    code, _, err = again()
    assert (code, "is newer than this vaectl reads" in err) == (4, True)
    assert file.read_bytes() == before


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        ("seeds:\n- 0\n- 1", "seeds:\n- 0\n- 1\n- 2", 0),
        ("target: null", "target: -1.0", 0),
        ("every: 10", "every: 3", 0),
        ("importance_samples: 2", "importance_samples: 3", 2),
        ("epochs: 2", "epochs: 3", 2),
        ("protocol: tuned", "protocol: tunde", 4),
        ("# the resolved", "the resolved", 4),
        ("# the resolved", "# somebody's", 0),
    ],
)
def test_comparison_yaml_changes_nothing_or_is_refused(
    old: str, new: str, code: int, again: Callable[[], Answer], finished: Path
) -> None:
    file = C / "comparison.yaml"
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new, 1))
    answer = again()
    assert answer.code == code, answer.err
    if code:
        assert "comparison.yaml" in answer.err
        file.unlink()  # as the hint says
        assert again().code == 0
    assert file.read_bytes() == (finished / "comparison.yaml").read_bytes()
    assert published(C) == published(finished)


def test_comparison_yaml_that_is_gone_is_written_again(
    again: Callable[[], Answer], finished: Path
) -> None:
    (C / "comparison.yaml").unlink()
    assert again().code == 0
    assert (C / "comparison.yaml").read_bytes() == (finished / "comparison.yaml").read_bytes()
    assert published(C) == published(finished)


def test_a_directory_of_somebody_elses_trials_is_left_alone(vaectl: Vaectl) -> None:
    Path("c.yaml").write_text(SETTINGS)
    (C / "trials").mkdir(parents=True)
    (C / "trials" / "patients.json").write_text("{}")
    for force in ((), ("--force",)):
        code, _, err = vaectl(*COMMAND, *force)
        assert code == 2
        assert "error: runs/c is not a comparison" in err
    assert (C / "trials" / "patients.json").read_text() == "{}"


def test_other_surroundings_are_named_and_give_other_trials(
    again: Callable[[], Answer], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {*(C / "trials").iterdir()}
    monkeypatch.setenv("NPROC", "3")
    code, _, err = again()
    assert code == 0
    assert "warning: since trials that are there, NPROC was not set, is 3: the last bits may" in err
    assert len({*(C / "trials").glob("*[0-9a-f].json")} - before) == 8


def test_runs_of_other_surroundings_are_never_written_over(
    again: Callable[[], Answer], monkeypatch: pytest.MonkeyPatch, finished: Path
) -> None:
    assert again().code == 0
    monkeypatch.setenv("NPROC", "3")
    assert again().code == 0
    others = {path: path.read_bytes() for path in (C / "adam-s0").rglob("*") if path.is_file()}
    monkeypatch.delenv("NPROC")
    code, _, err = again()
    assert code == 0, err
    assert "adam-s0 is there, and not of a sealed trial: renamed to adam-s0.2" in err
    for path, content in others.items():
        assert (C / "adam-s0.2" / path.relative_to(C / "adam-s0")).read_bytes() == content
    assert numbers(C)["verdict"] == numbers(finished)["verdict"]


@pytest.mark.parametrize("name", ["report.html", "summary.json", "figures/curves.png"])
def test_force_refuses_to_write_over_what_is_not_of_a_comparison(
    name: str, again: Callable[[], Answer], vaectl: Vaectl
) -> None:
    (C / name).parent.mkdir(exist_ok=True)
    (C / name).write_text("mine")
    before = {path: path.read_bytes() for path in C.rglob("*") if path.is_file()}
    code, _, err = vaectl(*COMMAND, "--force")
    assert (code, f"{C / name}: not made by vaectl" in err) == (4, True)
    assert {path: path.read_bytes() for path in C.rglob("*") if path.is_file()} == before
    del again


def test_force_removes_the_runs_of_a_comparison_and_no_others(
    again: Callable[[], Answer], vaectl: Vaectl
) -> None:
    for name in ("mine", "adam-s0.1"):
        shutil.copytree(C / "adam-s0", C / name)
    before = {path: path.read_bytes() for path in C.glob("mine/**/*") if path.is_file()}
    code, _, err = vaectl(*COMMAND, "--force")
    assert code == 0
    for name in ("mine", "adam-s0.1"):
        assert f"warning: {C / name}: not vaectl's, and left alone" in err
    assert {path: path.read_bytes() for path in before} == before
    assert not (C / "adam-s0.2").exists()
    del again


def test_a_member_that_is_a_link_is_not_followed(
    again: Callable[[], Answer], vaectl: Vaectl
) -> None:
    (C / "adam-s0").rename("victim")
    (C / "adam-s0").symlink_to("../../victim")
    before = {path: path.read_bytes() for path in Path("victim").rglob("*") if path.is_file()}
    for command in (("train", "--epochs", 9, "--resume"), ("sample",), ("evaluate",)):
        code, _, err = vaectl(*command, "c/adam-s0")
        assert (code, "c/adam-s0: it is a link" in err) == (4, True), err
    assert {path: path.read_bytes() for path in before} == before
    (C / "adam-s0").unlink()
    (C / "comparison.yaml").unlink()
    assert vaectl("train", "--resume", "c/adam-s1").code == 2
    assert vaectl("train", "--runs-dir", C, "--name", "adam-s1", "--force").code == 2
    del again


def test_a_model_that_is_not_finite_on_the_test_split_stops_no_other(
    again: Callable[[], Answer], monkeypatch: pytest.MonkeyPatch
) -> None:
    for file in (C / "trials").glob("*.test.json"):
        file.unlink()
    really = assessment.assess

    def assess(model: Trained, *arguments: Any, **options: Any) -> Evaluation:
        if model.rundir.name == "adam-s0":
            raise DivergedError("adam-s0: its ELBO is not finite on the test split", hint="")
        return really(model, *arguments, **options)

    monkeypatch.setattr(assessment, "assess", assess)
    code, out, err = again()
    assert (code, "adam-s0: its ELBO is not finite" in err) == (4, True)
    assert "sgd" in out


def test_what_a_killed_comparison_left_half_made_is_removed(
    again: Callable[[], Answer], finished: Path
) -> None:
    wholes = [
        C / "figures" / "curves.png",
        C / "figures" / "curves.svg",
        C / "trials.csv",
        C / "summary.json",
        C / "report.html",
        *sorted((C / "trials").glob("*.json")),
    ]
    halves = [whole.with_name(f".{whole.name}.abcd_fgh") for whole in wholes]
    for half, whole in zip(halves, wholes, strict=True):
        half.write_bytes(whole.read_bytes()[:2000])
    halves.append(C / ".curves.csv.abcdefgh")
    halves[-1].touch()
    half_saved = C / "trials" / "adam-s3"  # where an older vaectl made it
    shutil.copytree(C / "adam-s0", half_saved)
    for name in ("run.json", "evaluation.json"):
        (half_saved / name).unlink()
    config = half_saved / "config.yaml"
    config.write_text(config.read_text().replace("of adam-s0", "of adam-s3"))
    kept = [
        C / ".notes.txt",
        C / "figures" / ".mine.png.abcdefgh",
        C / "trials" / "notes.txt",
        C / "trials" / "mine-s1" / "notes.txt",
        C / "trials" / "mine-s2" / "run.json",
    ]
    for file in kept:
        file.parent.mkdir(exist_ok=True)
        file.write_text("mine")
    assert again().code == 0
    assert [path for path in (*halves, half_saved) if path.exists()] == []
    assert [file.read_text() for file in kept] == ["mine"] * 5
    assert published(C) == published(finished)


def test_curves_of_a_member_that_cannot_be_drawn_are_told_after_all_else(
    again: Callable[[], Answer], finished: Path
) -> None:
    drawn = C / Path(numbers(C)["sides"][0]["best_run"]).name / "figures"
    shutil.rmtree(drawn)
    drawn.symlink_to(Path("outside").absolute())
    code, out, err = again()
    assert code == 4
    assert str(drawn) in err
    assert "sgd" in out
    assert published(C) == published(finished)
    drawn.unlink()
    assert again().code == 0
    assert (drawn / "elbo.png").is_file()


@pytest.mark.parametrize("folder", ["trials", "figures", "adam-s0", "adam-s0/checkpoints"])
def test_nothing_is_written_behind_a_link(folder: str, again: Callable[[], Answer]) -> None:
    outside = Path("outside")
    (C / folder).rename(outside)
    (C / folder).symlink_to(outside.resolve())
    for file in outside.rglob("*.json"):
        file.write_text("edited")
    before = {file: file.read_bytes() for file in outside.rglob("*") if file.is_file()}
    code, _, err = again()
    assert code == 4
    assert f"error: {C / folder}: cannot be " in err
    assert "it is a link, and vaectl follows no links there" in err
    assert {file: file.read_bytes() for file in outside.rglob("*") if file.is_file()} == before


def test_a_member_is_not_resumed_but_a_copy_of_it_is(
    again: Callable[[], Answer], vaectl: Vaectl
) -> None:
    assert again().code == 0
    for more in ((), ("--epochs", 100)):
        code, _, err = vaectl("train", "--resume", "c/adam-s0", *more)
        assert code == 2
        assert "runs/c/adam-s0 is a run of the comparison c" in err
        assert "copy it out of the comparison" in err
    shutil.copytree(C / "adam-s0", "runs/copy")
    assert vaectl("train", "--resume", "copy", "--epochs", 3).code == 0
    assert RunDir(Path("runs/copy")).read_record().epoch == 3
    assert untimed(again().err) == NOTHING_NEW


# comparisons of before trials were sealed


@pytest.fixture
def old(vaectl: Vaectl) -> Callable[[], Answer]:
    """Continue a comparison of before trials were sealed."""
    with tarfile.open(OLD) as tar:
        tar.extractall("runs", filter="data")
    Path("runs/comparison-1").rename(C)
    Path("c.yaml").write_text(SETTINGS)
    return lambda: vaectl(*COMMAND)


def _of(old: str, new: str) -> Callable[[str], str]:
    return lambda text: text.replace(old, new)


def _intervals(value: object) -> Iterator[dict[str, Any]]:
    """Find the intervals in a part of a summary."""
    if isinstance(value, dict):
        if "low" in value:
            yield value
        value = [*value.values()]
    for each in value if isinstance(value, list) else ():
        yield from _intervals(each)


@pytest.mark.usefixtures("as_if_optimized")
def test_an_old_comparison_is_checked_and_sealed_and_trains_nothing(
    old: Callable[[], Answer],
) -> None:
    before = numbers(C)
    tables = [(C / name).read_bytes() for name in ("trials.csv", "curves.csv")]
    code, _, err = old()
    assert code == 0
    # it was made elsewhere, perhaps with other versions
    other = ("evaluating", "timing", "time:", "warning: since trials that are there, ")
    said = [line for line in err.splitlines() if not line.startswith(other)]
    assert said == [
        "reading digits-5k",
        "warning: runs/c: 4 trials of the tuning were written before trials were sealed, and are "
        "taken as trials.csv and curves.csv have them",
        "drawing curves",
        *NEXT,
    ]
    # trials.csv has got more columns
    now = [(C / name).read_bytes() for name in ("trials.csv", "curves.csv")]
    assert [len(line) for line in csv.reader(now[0].decode().splitlines())] == 9 * [16]
    assert [
        line.startswith(told)
        for line, told in zip(*(t[0].splitlines() for t in (now, tables)), strict=True)
    ] == 9 * [True]
    assert now[1] == tables[1]
    after = numbers(C)
    for summary in (before, after):  # intervals were of another kind
        for each in (*_intervals(summary["sides"]), *_intervals(summary["pairs"])):
            for name in ("low", "high", "iqm"):
                each.pop(name, None)
    for side, told in zip(after["sides"], before["sides"], strict=True):
        for field in ("test_elbo", "test_kl", "test_log_likelihood"):
            for number, expected in zip(
                side.pop(field).values(), told.pop(field).values(), strict=True
            ):
                assert number == pytest.approx(expected, rel=1e-5)
        for name in ("final", "best"):
            assert side.pop(name)["elbo"] == told.pop(f"{name}_elbo")
        assert [rate.pop("score") for rate in side["tried"]] == [
            rate.pop("elbo") for rate in told["tried"]
        ]
        for summary in (side, told):
            summary.pop("best_run")
        assert (side.pop("found"), side.pop("tunable")) == ({"learning_rate": 1e-3}, 1)
        for tried in side["tried"]:
            assert tried.pop("values") == {"learning_rate": tried["learning_rate"]}
        for name in {*side} - {*told}:  # told since
            side.pop(name)
    assert after.pop("quantity") == "elbo"
    assert list(after.pop("kinds").values()) == [4]
    assert [pair.pop("seeds") for pair in after["pairs"]] == [2]
    for pair in after["pairs"]:
        assert pair.pop("adjusted_p") == pair.pop("best_p") == pair.pop("p_value") < 1
    for summary in (before, after):
        summary.pop("format_version")
        summary.pop("intervals")
    before["data"]["image_shape"].append(1)  # images have channels since
    for summary in (before, after):
        summary.pop("name")
        summary.pop("path")
        summary.pop("verdict")  # follows from the intervals
    assert {name: after[name] for name in before} == before
    err = old().err
    assert [line for line in err.splitlines() if not line.startswith(other)] == [
        "reading digits-5k",
        "drawing curves",
        *NEXT,
    ]


@pytest.mark.usefixtures("as_if_optimized")
@pytest.mark.parametrize(
    ("file", "edit", "reason"),
    [
        ("trials.csv", _of("-563.67", "-363.67"), "other numbers than those of its curve"),
        ("trials.csv", _of("finished", "diverged"), "other numbers than those of its curve"),
        ("curves.csv", _of("-563.67", "-363.67"), "an ELBO is not -(NLL + KL), or a time is negat"),
        ("curves.csv", lambda text: text[:-300], "an epoch is missing, or there twice"),
        ("sgd-s0/metrics.csv", _of("-563.67", "-363.67"), "metrics.csv has another curve"),
        ("sgd-s0/run.json", _of("finished", "failed"), "run.json says otherwise"),
        ("sgd-s0/config.yaml", _of("0.001", "0.002"), "config.yaml is of another trial"),
        (
            "sgd-s0/checkpoints/4.json",
            _of("-563", "-363"),
            "the checkpoint is not of the best epoch",
        ),
    ],
)
def test_a_trial_of_an_old_comparison_that_disagrees_with_its_run_is_trained_again(
    file: str, edit: Callable[[str], str], reason: str, old: Callable[[], Answer]
) -> None:
    before = numbers(C)
    text = (C / file).read_text()
    assert edit(text) != text
    (C / file).write_text(edit(text))
    code, _, err = old()
    assert code == 0, err
    (*_, line) = [line for line in err.splitlines() if "trained again" in line]
    assert line.startswith("warning: runs/c/trials.csv: sgd, learning rate 0.001, seed ")
    assert f"does not agree with curves.csv or with its run ({reason}" in line
    for side, told in zip(numbers(C)["sides"], before["sides"], strict=True):
        assert side["best"]["elbo"]["mean"] == pytest.approx(told["best_elbo"]["mean"], rel=1e-5)


@pytest.mark.usefixtures("as_if_optimized")
def test_rows_twice_in_an_old_comparison_count_once(old: Callable[[], Answer]) -> None:
    for name in ("trials.csv", "curves.csv"):
        lines = (C / name).read_text().splitlines()
        (C / name).write_text("\n".join([*lines, lines[-1]]) + "\n")
    code, _, err = old()
    assert code == 0
    assert "trained again" not in err


def test_an_old_comparison_whose_import_was_cut_off_is_read_again(
    old: Callable[[], Answer],
) -> None:
    (C / ".trials").mkdir()
    (C / ".trials" / "half.json").write_text("{")
    code, _, err = old()
    assert code == 0
    assert "4 trials of the tuning" in err
    assert not (C / ".trials").exists()


def test_a_trial_under_the_key_of_before_plugs_is_trained_again_in_its_place(
    old: Callable[[], Answer],
) -> None:
    assert old().code == 0  # sealed now, under the keys that it had
    names = {path.name for path in (C / "trials").iterdir()}
    before = numbers(C)
    for stage in ("tuning", "result"):
        file = _sealed("sgd", stage)
        file.write_bytes(file.read_bytes()[:-20])
        code, _, err = old()
        assert code == 0, err
        assert f"{file}: damaged or changed: sgd, learning rate 0.001" in err
        assert {path.name for path in (C / "trials").iterdir()} == names
        assert "damaged" not in old().err
    for side, told in zip(numbers(C)["sides"], before["sides"], strict=True):
        assert side["best"]["elbo"]["mean"] == pytest.approx(told["best"]["elbo"]["mean"], rel=1e-5)


# the drill: random single edits


def test_random_edits_change_nothing_that_is_published_or_are_named(
    finished: Path, vaectl: Vaectl, happened: Happened
) -> None:
    for seed in range(15):
        drill(seed, finished, vaectl, happened)


def test_differences_are_taken_only_between_members_that_ran_on_one_kind_of_device(
    again: Callable[[], Answer],
) -> None:
    before = json.loads((C / "summary.json").read_text())
    assert (len(before["kinds"]), [pair["seeds"] for pair in before["pairs"]]) == (1, [2])
    file = _sealed("sgd", "result", 1)
    files = json.loads(file.read_text())["files"]
    record = json.loads(files["run.json"])
    del record["seal"]
    record["device"] |= {"host": "elsewhere", "processor": "Another 3000"}
    files["run.json"] = json.dumps(seals.sealed(record))
    _seal_again(file, files=files)
    (C / "sgd-s1" / "run.json").write_text(files["run.json"])
    answer = again()
    assert answer.code == 0, answer.err
    summary = json.loads((C / "summary.json").read_text())
    (pair,) = summary["pairs"]
    assert (pair["seeds"], pair["difference"]["seeds"]) == (1, 1)
    # steps relative to the baseline's are differences of logarithms
    assert {s["label"]: s["steps_to_baseline"]["seeds"] for s in summary["sides"]} == {
        summary["baseline"]: 2,
        "sgd": 1,
    }
    assert sorted(summary["kinds"].values()) == [1, 3]
    for text in (answer.out, (C / "report.html").read_text()):
        assert "Another 3000" in text
        assert "1 of 2 pairs" in text
    with (C / "trials.csv").open() as table:
        ran = [row["ran_on"] for row in csv.DictReader(table) if row["stage"] == "result"]
    assert sum("Another 3000" in each for each in ran) == 1
