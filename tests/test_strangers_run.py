"""A run from somebody else harms nothing outside of it, whatever it holds."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Vaectl
from vaectl.base import seals
from vaectl.base.errors import RunError
from vaectl.base.files import Folder
from vaectl.base.terminal import visible
from vaectl.runs.directory import RunDir
from vaectl.runs.record import Record
from vaectl.runs.saved import kept


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    """A directory outside of all runs, of which a stranger knows what it holds."""
    folder = tmp_path / "victim"
    (folder / "2023").mkdir(parents=True)
    (folder / "2023" / "photo.jpg").write_bytes(b"photo")
    (folder / "2024.tar.gz").write_bytes(b"archive")
    (folder / "thesis.txt").write_text("years of work")
    return folder


def _all(folder: Path) -> dict[str, str]:
    """What is in a directory: the digest of each file by its path."""
    found = {}
    for path in sorted(folder.rglob("*")):
        content = path.read_bytes() if path.is_file() else b""
        found[str(path)] = hashlib.sha256(content).hexdigest()
    return found


def _set_status(run: Path, status: str) -> None:
    rundir = RunDir(run)
    rundir.write_record(rundir.read_record().model_copy(update={"status": status}))


SMALL = ("--epochs", 1, "--hidden-size", 8, "--code-size", 2, "--set", "data.train_size=100")
COMMANDS = (
    ("train", "--resume", "z2", "--epochs", 4),
    ("train", *SMALL, "--name", "z2", "--force"),
    ("sample", "z2", "--count", 4),
    ("evaluate", "z2", "--importance-samples", 0),
    ("runs",),
)

LINKS = ("checkpoints", "figures", "metrics.csv", "checkpoints/LAST/d")
MORE_LINKS = (
    ".lock",
    "figures/sample.png",
    "checkpoints/2023",
    "config.yaml",
    "run.json",
    "evaluation.json",
    ".evaluation.lock",
    "figures/elbo.svg",
    "checkpoints/LAST",
    "checkpoints/LAST.json",
    "checkpoints/LAST/manifest.ocdbt",
    "checkpoints/2024.tar.gz",
    "checkpoints/99999.orbax-checkpoint-tmp",
)


@pytest.mark.parametrize(
    "link", [*LINKS, *(pytest.param(link, marks=pytest.mark.full) for link in MORE_LINKS)]
)
def test_no_link_is_followed_out_of_a_run(
    link: str, vaectl: Vaectl, runs: Path, victim: Path
) -> None:
    """Each part of a run is a link: to a copy of itself where there is one, else to a directory."""
    run = runs / "z2"
    last = str(kept(RunDir(run).checkpoints)[-1].step)
    place = run / link.replace("LAST", last)
    _set_status(run, "interrupted")
    target = victim / "target"
    if place.exists():
        shutil.move(place, target)
    elif place.suffix in (".json", ".lock"):
        target.write_text("{}")
    else:
        target = victim / (place.name if (victim / place.name).exists() else "2023")
    place.parent.mkdir(exist_ok=True)
    place.symlink_to(os.path.relpath(target, place.parent))
    before = _all(victim)
    for command in COMMANDS:
        answer = vaectl(*command)
        assert _all(victim) == before, command
        assert answer.code in (0, 3, 4), answer.err
        assert answer.code == 0 or str(place.name) in answer.err or link == ".lock", answer.err


def test_no_member_that_is_a_link_is_read(vaectl: Vaectl, runs: Path) -> None:
    comparison = runs / "comparison"
    comparison.mkdir()
    (comparison / "comparison.yaml").write_text("")
    (comparison / "adam-s0").symlink_to("../z2")
    rows = json.loads(vaectl("runs", "--json").out)["runs"]
    assert {row["name"] for row in rows} == {"z2", "z5", "comparison/adam-s0"}
    (member,) = (row for row in rows if row["name"] == "comparison/adam-s0")
    assert (member["status"], "link" in member["problem"]) == ("not a run", True)


def test_a_hard_link_is_not_written_through(vaectl: Vaectl, runs: Path, victim: Path) -> None:
    run = runs / "z2"
    _set_status(run, "interrupted")
    for name in ("metrics.csv", "run.json", "config.yaml"):
        os.link(run / name, victim / name)
    before = _all(victim)
    assert vaectl("train", "--resume", "z2", "--epochs", 4).code == 0
    assert _all(victim) == before


OTHERS = {
    "2023/photo.jpg": b"photo",
    "2024.tar.gz": b"archive",
    "7": b"",
    "7.json": b'{"format": "of somebody else"}',
    "8/_METADATA/photo.jpg": b"photo",
    "9.orbax-checkpoint-tmp/notes.txt": b"notes",
    "notes.txt": b"notes",
}


def _put(folder: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def test_what_is_not_vaectls_stays_in_checkpoints_and_is_named(vaectl: Vaectl, runs: Path) -> None:
    checkpoints = runs / "z2" / "checkpoints"
    _put(checkpoints, OTHERS)
    _set_status(runs / "z2", "interrupted")
    answer = vaectl("train", "--resume", "z2", "--epochs", 5)
    assert answer.code == 0, answer.err
    for name, content in OTHERS.items():
        assert (checkpoints / name).read_bytes() == content
        top = name.partition("/")[0]
        named = f"checkpoints/{top}: not a checkpoint made by vaectl" in answer.err
        assert named == (top not in ("notes.txt", "2024.tar.gz")), answer.err


def test_what_is_not_vaectls_stays_when_a_run_is_replaced_and_is_named(
    vaectl: Vaectl, runs: Path
) -> None:
    run = runs / "z2"
    assert vaectl("sample", "z2").code == 0
    assert vaectl("evaluate", "z2", "--importance-samples", 0).code == 0
    others = {f"checkpoints/{name}": content for name, content in OTHERS.items()}
    others |= {"notes.txt": b"notes", "figures/mine.png": b"\x89PNG mine", ".run.json.swp": b"vi"}
    others |= {"figures/morph.png": b"not drawn by vaectl", "code/run.py": b"print()"}
    _put(run, others)
    answer = vaectl("train", *SMALL, "--name", "z2", "--force")
    assert answer.code == 0, answer.err
    for name, content in others.items():
        assert (run / name).read_bytes() == content
        left = name.split("/")[: 2 if name.startswith(("checkpoints", "figures")) else 1]
        assert f"{'/'.join(left)}: not vaectl's, and left alone" in answer.err
    assert not (run / "figures" / "sample.png").exists()
    assert not (run / "evaluation.json").exists()


@pytest.mark.parametrize("name", ["config.yaml", "metrics.csv", "run.json", "evaluation.json"])
def test_a_file_of_ones_own_in_the_place_of_a_runs_is_not_replaced(
    name: str, vaectl: Vaectl, runs: Path
) -> None:
    (runs / "z2" / name).write_text("mine")
    before = _all(runs)
    answer = vaectl("train", *SMALL, "--name", "z2", "--force")
    assert (answer.code, f"{name}: not made by vaectl" in answer.err) == (4, True)
    assert _all(runs) == before


def _edit(change: Callable[[dict[str, Any]], object]) -> Callable[[str], str]:
    def edited(text: str) -> str:
        fields = json.loads(text)
        fields.pop("seal", None)  # as of an older vaectl, or of somebody who makes one
        change(fields)
        return json.dumps(fields).replace("Infinity", "1e400")

    return edited


def _at(path: str, value: object) -> Callable[[str], str]:
    """Set one field of a JSON object by its dotted path."""

    def change(fields: dict[str, object]) -> None:
        *parents, last = path.split(".")
        section = fields
        for parent in parents:
            below = section[parent]
            assert isinstance(below, dict)
            section = below
        section[last] = value

    return _edit(change)


RECORDS: dict[str, Callable[[str], str]] = {
    "huge images": _at("data.image_shape", [float("inf"), float("inf")]),
    "images of negative size": _at("data.image_shape", [-28, -28]),
    "images of another shape": _at("data.image_shape", [14, 56]),
    "images of another size": _at("data.image_shape", [28, 29]),
    "flat images": _at("data.image_shape", [784]),
    "enormous images": _at("data.image_shape", [10**6, 10**6]),
    "images of no size": _at("data.image_shape", [0, 784]),
    "images of no channel": _at("data.image_shape", [28, 28, 0]),
    "images of three channels": _at("data.image_shape", [28, 28, 3]),
    "no shape": _edit(lambda fields: fields.pop("data")),
    "no fingerprint": _at("data.fingerprint", ""),
    "a number as fingerprint": _at("data.fingerprint", 3),
    "negative epochs": _at("epoch", -1),
    "no epochs": _at("epochs", 0),
    "a fraction of an epoch": _at("epoch", 0.5),
    "a best of before that is infinite": _at("best", {"epoch": 1, "validation_elbo": 1e400}),
    "a best that is infinite": _at("best", {"epoch": 1, "score": float("inf")}),
    "no estimator": _at("metrics", {"unit": "nats"}),
    "a device of lists": _at("device", {"platform": ["cpu"]}),
    "a seed that is none": _at("seed", -1),
    "a list": lambda _text: "[]",
    "no text": lambda _text: "\x00",
    "nested deeply": lambda _text: "[" * 100_000,
}


@pytest.mark.parametrize("kind", RECORDS)
def test_a_record_is_checked_before_it_is_used(kind: str, vaectl: Vaectl, runs: Path) -> None:
    file = runs / "z2" / "run.json"
    file.write_text(RECORDS[kind](file.read_text()))
    for command in (("sample", "z2"), ("evaluate", "z2")):
        answer = vaectl(*command)
        assert (answer.code, "run.json" in answer.err) == (4, True), answer.err
        assert answer.err.count("\n") == 2, answer.err
    assert vaectl("runs").code == 0


@pytest.mark.parametrize(
    ("was", "is_"),
    [
        ('"score": -', '"score": -1'),
        ('"epochs": 3', '"epochs": 2'),
        ('"status": "finished"', '"status": "failed"'),
        ('"name": "z2"', '"name": "z3"'),
        ('"seal": "', '"seal": "0'),
    ],
)
def test_an_edit_of_a_record_is_named(was: str, is_: str, vaectl: Vaectl, runs: Path) -> None:
    file = runs / "z2" / "run.json"
    assert was in file.read_text()
    file.write_text(file.read_text().replace(was, is_))
    for command in (("sample", "z2"), ("train", "--resume", "z2", "--epochs", 4)):
        answer = vaectl(*command)
        assert (answer.code, "run.json: it was changed" in answer.err) == (4, True)
    listed = {row["name"]: row for row in json.loads(vaectl("runs", "--json").out)["runs"]}
    assert listed["z2"]["status"] == "not a run"
    assert "run.json: it was changed" in listed["z2"]["problem"]


@pytest.mark.parametrize(
    ("was", "is_"),
    [
        ("activation: relu", "activation: tanh"),
        ("threshold: 0.5", "threshold: 0.1"),
        ("test_size: 120", "test_size: 100"),
    ],
)
def test_a_configuration_that_was_changed_gives_no_picture(
    was: str, is_: str, vaectl: Vaectl, runs: Path
) -> None:
    file = runs / "z2" / "config.yaml"
    assert was in file.read_text()
    file.write_text(file.read_text().replace(was, is_))
    for command in (("sample", "z2"), ("evaluate", "z2")):
        answer = vaectl(*command)
        assert answer.code == 4
        assert "z2: its config.yaml was changed after training" in answer.err


def test_a_wrong_shape_is_noticed_where_the_checkpoint_does_not_know_it(
    vaectl: Vaectl, runs: Path
) -> None:
    """As of runs that an older vaectl made: by the data, where a command reads them."""
    run = RunDir(runs / "z2")
    for info in kept(run.checkpoints):
        file = run.checkpoints.path / f"{info.step}.json"
        fields = json.loads(file.read_text())
        del fields["image_shape"], fields["seal"]
        sealed = hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()
        file.write_text(json.dumps({**fields, "seal": sealed}))
    assert vaectl("reconstruct", "z2").code == 0
    file = run.path / "run.json"
    file.write_text(RECORDS["images of another shape"](file.read_text()))
    answer = vaectl("reconstruct", "z2")
    assert (answer.code, "image shape is (14, 56, 1)" in answer.err) == (4, True)


EVALUATIONS: dict[str, Callable[[str], str]] = {
    "a number as text": _at("test.elbo.mean", "-100"),
    "an infinity": _at("test.elbo.mean", float("inf")),
    "a negative error": _at("test.elbo.standard_error", -1.0),
    "no images": _at("test.images", 0),
    "dimensions of another code": _at("test.activity", [1.0]),
    "more active units than there are": _at("test.active_units", 3),
    "a split that is none": _edit(lambda fields: fields.update(tset=fields.pop("test"))),
}


@pytest.mark.parametrize("kind", EVALUATIONS)
def test_evaluations_are_checked_before_they_are_kept(
    kind: str, vaectl: Vaectl, runs: Path
) -> None:
    assert vaectl("evaluate", "z2", "--importance-samples", 0).code == 0
    file = runs / "z2" / "evaluation.json"
    file.write_text(broken := EVALUATIONS[kind](file.read_text()))
    answer = vaectl("evaluate", "z2", "--split", "validation", "--importance-samples", 0)
    assert (answer.code, "evaluation.json: it was changed" in answer.err) == (4, True)
    assert file.read_text() == broken


ESCAPE = "\x1bcsi\x1b]0;owned\x07\x9b31m\u202egnp"


def test_names_and_values_show_their_escapes(vaectl: Vaectl, runs: Path) -> None:
    (runs / "z2").rename(runs / f"a{ESCAPE}")
    config = runs / "z5" / "config.yaml"
    config.write_text(config.read_text().replace("digits-5k", '"idx:/etc/\\e[31m"'))
    (runs / f"b{ESCAPE}").mkdir()
    (runs / f"b{ESCAPE}" / "run.json").write_text("{}")
    for command in (
        ("runs",),
        ("runs", "--json"),
        ("sample", f"a{ESCAPE}"),
        ("evaluate", f"a{ESCAPE}", "--importance-samples", 0),
        ("evaluate", f"a{ESCAPE}", "--importance-samples", 0, "--json"),
        ("train", "--resume", f"a{ESCAPE}"),
        ("train", "--resume", f"b{ESCAPE}"),
        ("sample", f"{ESCAPE}"),
        ("reconstruct", "z5"),
        ("config", "show", config),
        ("train", "--set", f"data.source=npz:{ESCAPE}"),
    ):
        answer = vaectl(*command)
        shown = answer.out + answer.err
        assert shown == visible(shown), command
        assert "\\u001b" in shown or "\\e" in shown, command


@pytest.mark.parametrize(
    "text", [ESCAPE, "plain", "a\tb\nc", "z\u00e9 \u4e2d \U0001f600", "\U000e0001"]
)
def test_text_that_is_made_visible_is_the_same_in_json(text: str) -> None:
    assert json.loads(visible(json.dumps(text, ensure_ascii=False))) == text
    assert all(c.isprintable() or c in "\n\t" for c in visible(text))


def test_a_folder_tells_what_stands_in_it_without_following_it(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("file")
    os.mkfifo(tmp_path / "pipe")
    kinds = {name: folder.kind(name) for name in ("file", "folder", "link", "pipe", "none")}
    assert kinds == {
        "file": "file",
        "folder": "folder",
        "link": "link",
        "pipe": "other",
        "none": None,
    }
    for name, said in (("link", "it is a link"), ("pipe", "Not a regular file")):
        uses: list[Callable[[str], object]] = [
            folder.open,
            folder.sync,
            lambda name: folder.read(name, 10),
            lambda name: folder.append(name, b"x"),
        ]
        for use in uses:
            with pytest.raises(OSError, match=said):
                use(name)
    with pytest.raises(OSError, match="it is a link"), folder.replacing("link"):
        pass
    assert (tmp_path / "file").read_text() == "x"


def test_a_file_of_holes_is_refused_at_once(vaectl: Vaectl, runs: Path) -> None:
    run = RunDir(runs / "z2")
    last = kept(run.checkpoints)[-1]
    hole = run.checkpoints.path / str(last.step) / "d" / ("0" * 32)
    with hole.open("wb") as file:
        file.truncate(2**42)
    answer = vaectl("sample", "z2", "--checkpoint", "latest")
    assert (answer.code, "the checkpoint is damaged" in answer.err) == (4, True)
    with (run.path / "metrics.csv").open("r+b") as file:
        file.truncate(2**36)
    assert len(run.read_metrics(until=3)) == 6
    with (run.path / "run.json").open("r+b") as file:
        file.truncate(2**36)
    answer = vaectl("sample", "z2")
    assert (answer.code, "run.json: cannot be read: larger than 4.0 MiB" in answer.err) == (4, True)


def test_a_checkpoint_between_epochs_that_cannot_be_is_refused(vaectl: Vaectl, runs: Path) -> None:
    run = RunDir(runs / "z2")
    last = kept(run.checkpoints)[-1]
    file = run.checkpoints.path / f"{last.step}.json"
    fields = json.loads(file.read_text())
    fields |= {"epoch": 0, "beyond": last.step, "score": None, "best": None}
    del fields["seal"]
    file.write_text(json.dumps(seals.sealed(fields)))
    _set_status(run.path, "interrupted")
    answer = vaectl("train", "--resume", "z2")
    assert (answer.code, "is another step there" in answer.err) == (4, True)


def test_a_path_with_escapes_gives_a_run_that_can_be_read(vaectl: Vaectl) -> None:
    place = "r\x1b\x07\x9b31m\u202egnp"
    assert vaectl("train", *SMALL, "--runs-dir", place, "--name", "a").code == 0
    assert vaectl("sample", f"{place}/a", "--count", 1).code == 0
    assert vaectl("train", "--resume", f"{place}/a", "--epochs", 2).code == 0


def test_what_is_in_the_way_is_told_before_training(vaectl: Vaectl, runs: Path) -> None:
    checkpoints = runs / "z2" / "checkpoints"
    (checkpoints / "40.md").write_text("a note")
    (checkpoints / "40.json").write_text("mine")
    answer = vaectl("train", "--resume", "z2", "--epochs", 5)
    assert (answer.code, "40.json: in the way of a checkpoint" in answer.err) == (4, True)
    assert RunDir(runs / "z2").read_record().epochs == 3
    (checkpoints / "40.json").unlink()
    assert vaectl("train", "--resume", "z2", "--epochs", 5).code == 0
    assert (checkpoints / "40.md").read_text() == "a note"


def test_a_run_whose_end_cannot_be_written_has_not_finished(
    vaectl: Vaectl, monkeypatch: pytest.MonkeyPatch
) -> None:
    really = RunDir.write_record

    def write(run: RunDir, record: Record) -> None:
        if record.status == "finished":
            raise RunError("run.json: cannot be written: No space left on device", hint="")
        really(run, record)

    with monkeypatch.context() as patch:
        patch.setattr(RunDir, "write_record", write)
        answer = vaectl("train", *SMALL, "--name", "a")
    assert (answer.code, answer.out) == (4, "")
    assert "then vaectl train --resume runs/a" in answer.err
    assert vaectl("train", "--resume", "a").code == 0


@pytest.mark.parametrize(
    "name", ["mnist:9.9.9", "mnist/a=1,b=x", "robotics:x", "../x", "a/b/c", "-"]
)
def test_a_data_set_is_named_and_never_looked_for_elsewhere(name: str, vaectl: Vaectl) -> None:
    answer = vaectl("train", "--set", f"data.source=tfds:{name}")
    assert (answer.code, answer.err.count("\n")) in ((3, 2), (3, 3)), answer.err
