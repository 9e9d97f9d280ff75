"""Jobs: members that a worker trains, and the runs that they leave."""

from pathlib import Path

import jax
import pytest

from vaectl import data
from vaectl.base.files import Folder
from vaectl.config.schema import Config
from vaectl.experiment import Task
from vaectl.members import job as jobs
from vaectl.members.job import Done, Wanted
from vaectl.runs import metrics
from vaectl.runs.directory import RunDir
from vaectl.runs.saved import kept
from vaectl.training import population
from vaectl.training.events import Started, Warned, ignore
from vaectl.training.fit import Chunk, Epoch

SETTINGS = Config.model_validate(
    {
        "epochs": 4,
        "batch_size": 100,
        "data": {"train_size": 200, "validation_size": 50, "test_size": 50},
        "model": {"code_size": 2, "hidden_size": 8},
        "checkpoint": {"every": 4},
    }
)
NAMES = ("m0", "m1", "m2", "m3")


def _train(folder: Path, stop_at: tuple[str, int] = ("", 0)) -> list[object]:
    """Train four members until one of them has trained an epoch; return what was told."""
    folder.mkdir(exist_ok=True)
    task = Task(SETTINGS, data.load(SETTINGS.data), jax.devices()[:1], streamed=False, watch=ignore)
    settings = [SETTINGS.model_copy(update={"seed": seed}) for seed in range(len(NAMES))]
    job = [Wanted(name, each, name) for name, each in zip(NAMES, settings, strict=True)]
    told: list[object] = []

    def asked() -> bool:
        return any(isinstance(e, Epoch) and (e.member, e.epoch) == stop_at for e in told)

    try:
        for event in jobs.train(job, task, Folder(folder), asked):
            told.append(event)  # noqa: PERF402  # `asked` looks at it meanwhile
    except KeyboardInterrupt:
        assert asked()
    return told


@pytest.fixture
def in_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Train two members together at a time, as on a device with room for two."""
    monkeypatch.setattr(population, "strategy", lambda *_: ("together", ""))
    monkeypatch.setattr(population, "at_once", lambda *_: 2)


@pytest.mark.usefixtures("in_pairs")
@pytest.mark.parametrize("member", ["m0", "m1"])
def test_a_group_that_is_asked_to_stop_stops_at_one_epoch_and_no_other_begins(
    member: str, tmp_path: Path
) -> None:
    told = _train(tmp_path / "c", stop_at=(member, 1))
    epochs = [(e.member, e.epoch) for e in told if isinstance(e, Epoch)]
    # who asks after the round has begun is answered at the end of the next
    last = 1 if member == "m0" else 2
    assert epochs == [(name, epoch) for epoch in range(1, last + 1) for name in ("m0", "m1")]
    assert not (tmp_path / "c" / "m2").exists()
    for name in ("m0", "m1"):
        run = RunDir(tmp_path / "c" / name)
        assert run.read_record().status == "interrupted"
        assert kept(run.checkpoints)[-1].epoch == last
    again = _train(tmp_path / "c")
    assert not [e for e in again if isinstance(e, Warned)]
    started = {e.member: e.step for e in again if isinstance(e, Started)}
    assert started == {"m0": 2 * last, "m1": 2 * last, "m2": 0, "m3": 0}
    assert [e.member for e in again if isinstance(e, Done)] == [*NAMES]


def test_the_unrounded_metrics_are_durable_before_the_checkpoint_that_needs_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: dict[str, int] = {}
    sync = Folder.sync

    def spied(folder: Folder, name: str = "") -> None:
        sync(folder, name)
        if name in ("metrics.csv", metrics.UNROUNDED) and folder.path.name == "m0":
            synced[name] = len((folder.path / name).read_bytes().splitlines())

    monkeypatch.setattr(Folder, "sync", spied)
    _train(tmp_path / "c", stop_at=("m0", 2))
    saved = kept(RunDir(tmp_path / "c" / "m0").checkpoints)[-1].epoch
    assert saved == 2
    assert synced == {"metrics.csv": 1 + 2 * saved, metrics.UNROUNDED: 2 * saved}


def test_members_in_turn_stop_at_once(tmp_path: Path) -> None:
    told = _train(tmp_path / "c", stop_at=("m1", 2))
    events = [(e.member, e.epoch) for e in told if isinstance(e, Chunk | Epoch)]
    assert events[-1] == ("m1", 2)
    assert [e.member for e in told if isinstance(e, Done)] == ["m0"]
