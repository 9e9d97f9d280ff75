"""Run a comparison: the trials that are missing, then the test split, once.

runs/<name>/
  comparison.yaml    the resolved configuration; `vaectl compare-optimizers` on it continues
  trials.csv         one row per trial; see `vaectl.comparison.ledger`
  curves.csv         one row per trial, epoch and split
  <label>-s<seed>/   an ordinary run per optimizer and seed of the result
  summary.json       statistics
  figures/           curves and statistics, drawn
  report.html        all of it on one page
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import NamedTuple, final

import jax
import jax.numpy as jnp

from vaectl import (
    assessment,
    configfile,
    data,
    devices,
    experiment,
    footprint,
    population,
    trained,
    training,
)
from vaectl.checkpoints import Checkpoints, Info, check_place
from vaectl.comparison import directory, plan
from vaectl.comparison.ledger import Ledger, Outcome, unwritable
from vaectl.comparison.plan import Comparison, Trial, trials
from vaectl.config import Config
from vaectl.devices import DeviceKind
from vaectl.errors import ConfigError, DivergedError, InterruptedRunError, RunError
from vaectl.experiment import Stopping, Task
from vaectl.fitting import Chunk, Epoch
from vaectl.interrupts import asked_to_stop
from vaectl.progress import Note, Phase, Training, Watch, ignore
from vaectl.record import Best, Evaluation, Row, now
from vaectl.rundir import RunDir, check_name
from vaectl.training import Program


class Result(NamedTuple):
    """A comparison whose trials have all ended."""

    path: Path
    settings: Comparison
    trials: list[Trial]
    """In the order of the configuration."""
    outcomes: list[Outcome]
    """Of each trial."""
    curves: list[list[Row]]
    """Of each trial."""
    evaluations: list[Evaluation | None]
    """Of each trial: of its best epoch, on the test split, where it is one of the result."""
    problems: list[str]
    """Members that could not be evaluated, and why."""

    def check(self) -> None:
        """Tell of what went wrong with single members, now that all else is done.

        A learning rate of a grid that diverges is what a search is for; that none of them trains
        is not.

        Raises:
            RunError: members that could not be evaluated.
            DivergedError: members of the result that diverged.
        """
        if self.problems:
            raise RunError(
                "\n".join(self.problems),
                hint="the same command tries again; a run that was removed it trains again",
            )
        pairs = list(zip(self.trials, self.outcomes, strict=True))
        bad = [f"{t}: {o.error}" for t, o in pairs if (t.stage, o.status) == ("result", "diverged")]
        with_result = {trial.label for trial in self.trials if trial.stage == "result"}
        none = [label for label in self.settings.entries if label not in with_result]
        bad += [f"{label}: every learning rate that was tried diverged" for label in none]
        if bad:
            raise DivergedError("\n".join(bad), hint=f"all else is done: {self.path}")


def run(
    settings: Comparison,
    *,
    runs_dir: Path,
    name: str | None = None,
    force: bool = False,
    device_kind: DeviceKind = "auto",
    watch: Watch = ignore,
) -> Result:
    """Train all members that have not been trained, and evaluate the best models.

    Args:
        settings: what is compared.
        runs_dir: where the comparison's directory goes.
        name: of the directory; None for one made from the settings.
        force: whether a comparison of that name is begun again.
        device_kind: `auto`, `cpu` or `gpu`.
        watch: told of what goes on.

    Raises:
        ConfigError: no such device, more than its memory holds, an unusable name, or that of a
            comparison by other settings.
        DataError: the data set is missing or broken.
        RunError: the directory cannot be written, or another process writes in it.
        InterruptedRunError: SIGINT or SIGTERM; the same command continues.
    """
    check_name(runs_dir / "-", name, force=False)  # only the name: what has it is judged below
    path = runs_dir / (name or directory.default_name(settings))
    check_place(path)
    directory.check(settings, path, force=force)
    device = devices.select(device_kind)
    watch(Phase(f"reading {settings.base.data.source}"))
    dataset = data.load(settings.base.data)
    held_out = len(dataset.validation.images)
    programs = {_program(one, dataset) for one in settings.entries.values()}
    for each in programs:
        training.check_steps(each)
    # each is checked, whatever another one needs
    streamed = {footprint.check_training(each, held_out, device) for each in programs}
    for note in dataset.notes:
        watch(Note(f"note: {note}"))
    with asked_to_stop() as stopping, directory.locked(path, force=force):
        directory.check(settings, path, force=force)  # another process may have been here
        directory.check_data(path, settings.base.data.source, dataset.fingerprint)
        running = _Running(path, settings, dataset, device, any(streamed), watch, stopping)
        directory.write_settings(path, settings)
        try:
            with jax.default_device(device):
                planned = running.run()
                evaluations = [running.evaluated(trial) for trial in planned]
        except KeyboardInterrupt:
            raise InterruptedRunError(
                f"interrupted with {len(running.ledger.outcomes)} trials done",
                hint="the same command continues after them",
            ) from None
        keys = [running.key(trial) for trial in planned]
        return Result(
            path,
            settings,
            planned,
            [running.ledger.outcomes[key] for key in keys],
            [running.ledger.curves[key] for key in keys],
            evaluations,
            running.problems,
        )


@final
class _Running:
    """A comparison under way."""

    def __init__(
        self,
        path: Path,
        settings: Comparison,
        dataset: data.Dataset,
        device: jax.Device,
        streamed: bool,
        watch: Watch,
        stopping: Stopping,
    ) -> None:
        self.ledger = Ledger(path)
        self.problems: list[str] = []
        self._path, self._settings, self._dataset = path, settings, dataset
        self._device, self._streamed = device, streamed
        self._watch, self._stopping = watch, stopping
        # epochs of members: how many have ended, and how many there will be
        self._done_epochs = 0
        of_each = len(settings.seeds) + (settings.tuning.members if settings.tuning else 0)
        self._all_epochs = settings.base.epochs * of_each * len(settings.entries)
        self._train, self._validation = dataset.train.images, dataset.validation.images
        if not streamed:
            self._train, self._validation = jax.device_put((self._train, self._validation), device)
        self._how, _ = population.strategy(device, self._train)

    def key(self, trial: Trial) -> str:
        """Of its line in the ledger."""
        return trial.key(self._dataset.fingerprint)

    def run(self) -> list[Trial]:
        """Run what is missing; return all trials, those that tuning added among them."""
        settings = self._settings
        planned = []
        for label, experiment_ in settings.entries.items():
            rates = [experiment_.optimizer.chosen.learning_rate]
            if settings.tuning:
                tried = self._tuned(label, experiment_, settings.tuning)
                planned += tried
                rates = plan.best_rate(self._scores(tried))
            result = trials(label, "result", experiment_, rates, settings.seeds)
            self._fit(result)
            if not result:  # no learning rate trains
                self._done_epochs += settings.base.epochs * len(settings.seeds)
            planned += result
        return planned

    def evaluated(self, trial: Trial) -> Evaluation | None:
        """Evaluate the best epoch of a trial of the result on the test split, if never done."""
        if trial.stage == "tuning" or self._outcome(trial).status == "diverged":
            return None
        self._leave_if_asked()
        try:
            return self._evaluation(RunDir(self._path / trial.run_name))
        except RunError as error:  # the others are evaluated all the same
            self.problems.append(error.message)
            return None

    def _evaluation(self, rundir: RunDir) -> Evaluation:
        found = rundir.read_evaluations().get("test")
        wanted = 1, self._settings.importance_samples, 0
        # somebody may have evaluated it otherwise since
        if found is None or (found.samples, found.importance_samples, found.seed) != wanted:
            self._watch(Phase(f"evaluating {rundir.name} on the test split"))
            found = assessment.assess(
                trained.load(rundir),
                "test",
                samples=wanted[0],
                importance_samples=wanted[1],
                seed=wanted[2],
            )
            rundir.write_evaluation(found)
        return found

    def _outcome(self, trial: Trial) -> Outcome:
        return self.ledger.outcomes[self.key(trial)]

    def _tuned(self, label: str, settings: Config, tuning: plan.Tuning) -> list[Trial]:
        """Try learning rates until the best of them lies between two others."""
        rates = first = tuning.rates(settings.optimizer.chosen.learning_rate)
        tried: list[Trial] = []
        while rates:
            added = trials(label, "tuning", settings, rates, tuning.seeds)
            known = all(map(self._done, added))
            self._fit(added)
            tried += added
            scores = self._scores(tried)
            wanted = tuning.grown(scores)
            rates = wanted[: tuning.growth - (len(scores) - len(first))]
            if wanted:
                best = plan.best_rate(scores)
                why = f"{best[0]:g} is best, at its edge" if best else "all of it diverged"
                more = " and ".join(f"{rate:g}" for rate in rates)
                grows = f"grows by {more}" if more else "has grown by all that tuning.growth allows"
                if not known:
                    self._watch(Note(f"{label}: the grid {grows}: {why}"))
                self._all_epochs += settings.epochs * len(rates) * len(tuning.seeds)
        return tried

    def _scores(self, tried: Sequence[Trial]) -> dict[float, float]:
        return plan.scores([self._outcome(trial) for trial in tried])

    def _fit(self, wanted: Sequence[Trial]) -> None:
        """Train those of one optimizer's members that are not in the ledger."""
        missing = [trial for trial in wanted if not self._done(trial)]
        self._done_epochs += self._settings.base.epochs * (len(wanted) - len(missing))
        if not missing:
            return
        label = missing[0].label
        program = _program(missing[0].settings, self._dataset)
        for trial in missing:
            if trial.stage == "result":
                self._make_way(trial.run_name)
        members = jax.device_put([training.member(t.settings) for t in missing], self._device)
        tracks = [_Track(trial) for trial in missing]
        steps = program.steps_per_epoch
        before = self._done_epochs * steps
        self._watch(Phase(f"{label}: {len(missing)} member{'s' * (len(missing) > 1)}"))
        self._watch(Training(self._all_epochs, program.images, steps, before, label))
        for index, event in population.fit(
            program, members, self._train, self._validation, self._how
        ):
            track = tracks[index]
            track.start = track.start or now()
            if isinstance(event, DivergedError):
                self._done_epochs += program.epochs - track.epochs
                self._end(track, str(event))
            elif isinstance(event, Chunk):
                self._watch(event._replace(step=self._done_epochs * steps + event.beyond))
            else:
                track.add(event)
                self._done_epochs += 1
                self._watch(event._replace(epoch=self._done_epochs))
                if event.epoch == program.epochs:
                    self._end(track)
                    continue  # others that train beside it have ended in this epoch too
            self._leave_if_asked()

    def _leave_if_asked(self) -> None:
        if self._stopping():
            raise KeyboardInterrupt  # the first signal only asked to stop

    def _done(self, trial: Trial) -> bool:
        if self.key(trial) not in self.ledger.outcomes:
            return False
        if trial.stage == "tuning":
            return True
        try:
            # its label may have been that of other hyperparameters in between
            return configfile.load(self._path / trial.run_name / "config.yaml") == trial.settings
        except ConfigError:
            return False

    def _end(self, track: _Track, error: str = "") -> None:
        """Write down a member that ended; one of the result leaves a run."""
        trial = track.trial
        if trial.stage == "result":
            self._save(track, error)
        outcome = track.outcome(self.key(trial), error)
        self.ledger.add(outcome, track.rows)
        track.best = None  # its state is saved, and large
        came_to = error or f"best validation ELBO {outcome.best_elbo:.2f}"
        self._watch(Note(f"{trial}: {came_to}"))

    def _make_way(self, name: str) -> None:
        """Move a run that is there under a name aside; what was cut off before it was one goes."""
        rundir = RunDir(self._path / name)
        if not rundir.has_record:
            shutil.rmtree(rundir.path, ignore_errors=True)
            return
        if rundir.is_locked():
            raise RunError(f"{rundir.path}: another process writes in it", hint="wait for it")
        places = (self._path / f"{name}.{number}" for number in count(1))
        aside = next(place for place in places if not place.exists())
        try:
            rundir.path.rename(aside)
        except OSError as error:
            raise unwritable(rundir.path, error) from None
        self._watch(
            Note(f"{name} is there, and no trial of this comparison: renamed to {aside.name}")
        )

    def _save(self, track: _Track, error: str) -> None:
        settings, name = track.trial.settings, track.trial.run_name
        with RunDir.create(self._path, name, name, force=False) as rundir:
            task = Task(settings, self._dataset, self._device, self._streamed, self._watch)
            record = experiment.first_record(task, rundir)
            update: dict[str, object] = {
                "status": "failed" if error else "finished",
                "error": error or None,
                "epoch": track.epochs,
                "start": track.start,
                "end": now(),
            }
            if (best := track.best) is not None:
                epoch, elbo = best.epoch, best.validation.elbo
                update["best"] = Best(epoch=epoch, validation_elbo=elbo)
                info = Info(epoch=epoch, step=best.step, validation_elbo=elbo, best=best.step)
                with Checkpoints(rundir.checkpoints) as checkpoints:
                    checkpoints.save(best.state, info)
            header = f"the resolved configuration of {name}"
            rundir.write_config(configfile.dump(settings, header))
            rundir.write_metrics(track.rows)
            rundir.write_record(record.model_copy(update=update))


def _program(settings: Config, dataset: data.Dataset) -> Program:
    return training.program(settings, images=len(dataset.train.images), pixels=dataset.pixels)


@final
class _Track:
    """A member as it trains."""

    def __init__(self, trial: Trial) -> None:
        self.trial = trial
        self.rows: list[Row] = []
        self.best: Epoch | None = None
        self.start = ""
        """Known once it trains."""

    @property
    def epochs(self) -> int:
        """That ended."""
        return len(self.rows) // 2

    def add(self, epoch: Epoch) -> None:
        """Keep an epoch's numbers, and its state if it is the best so far."""
        self.rows += epoch.rows
        better = self.best is None or epoch.validation.elbo > self.best.validation.elbo
        if self.trial.stage == "result" and better:
            # a copy: the state itself is donated to the next epoch
            self.best = epoch._replace(state=jax.tree.map(jnp.copy, epoch.state))

    def outcome(self, key: str, error: str) -> Outcome:
        """Its line of the ledger."""
        validation = [row for row in self.rows if row.split == "validation"]
        best = max(validation, key=lambda row: row.elbo, default=None)
        settings = self.trial.settings
        return Outcome(
            key=key,
            label=self.trial.label,
            stage=self.trial.stage,
            optimizer=settings.optimizer.name,
            learning_rate=self.trial.learning_rate,
            seed=settings.seed,
            status="diverged" if error else "finished",
            epochs=self.epochs,
            final_elbo=validation[-1].elbo if validation else None,
            best_elbo=best.elbo if best else None,
            best_epoch=best.epoch if best else None,
            train_seconds=sum(row.seconds for row in self.rows if row.split == "train"),
            error=error,
        )
