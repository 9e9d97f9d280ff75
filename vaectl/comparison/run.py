"""Run a comparison: the trials that are missing, then the test split, once.

runs/<name>/
  comparison.yaml    the resolved configuration; `vaectl compare-optimizers` on it continues
  trials/            every trial, sealed; see `vaectl.comparison.ledger`
  trials.csv         one row per trial, for people
  curves.csv         one row per trial, epoch and split, for people
  <label>-s<seed>/   an ordinary run per optimizer and seed of the result
  summary.json       statistics
  figures/           curves and statistics, drawn
  report.html        all of it on one page
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path
from typing import NamedTuple, final

import jax

from vaectl import data, experiment
from vaectl.base import devices
from vaectl.base.devices import DeviceKind
from vaectl.base.errors import DivergedError, InterruptedRunError, RunError
from vaectl.base.files import Folder
from vaectl.base.interrupts import asked_to_stop
from vaectl.comparison import directory, members, plan, unsealed
from vaectl.comparison.ended import Ended, Outcome, Tested
from vaectl.comparison.ledger import Ledger
from vaectl.comparison.plan import Comparison, Trial, trials
from vaectl.config.meaning import notes
from vaectl.config.schema import Config
from vaectl.evaluation import assess as assessment
from vaectl.experiment import Stopping, Task
from vaectl.objectives.base import label as label_of
from vaectl.runs import environment, trained
from vaectl.runs import resume as resumption
from vaectl.runs.checkpoints import Info, check_place
from vaectl.runs.directory import RunDir, check_name
from vaectl.runs.metrics import Row
from vaectl.runs.quiet import quiet_orbax
from vaectl.runs.record import Device, Evaluation, Record
from vaectl.runs.recorder import Recorder, rows_of
from vaectl.training import footprint, population
from vaectl.training.events import Note, Phase, Planned, Started, Stopped, Warned, Watch, ignore
from vaectl.training.fit import Chunk, Epoch
from vaectl.training.program import Member, Program
from vaectl.training.step import columns

SAMPLES, SEED = 1, 0
"""The samples per image, and the seed, of the ELBO on the test split."""


class Result(NamedTuple):
    """A comparison whose trials have all ended."""

    path: Path
    settings: Comparison
    trials: list[Trial]
    """All trials, in the order of the configuration; the lists below follow them."""
    outcomes: list[Outcome]
    curves: list[list[Row]]
    evaluations: list[Evaluation | None]
    """The best epoch on the test split; None for a trial of the tuning."""
    records: list[Record]
    """The records of the runs of the result."""
    problems: list[str]
    """Why runs of the result are damaged, or could not be evaluated."""

    def check(self) -> None:
        """Tell of what went wrong with single members, now that all else is done.

        A learning rate of a grid that diverges is what a search is for; that none of them trains
        is not.

        Raises:
            RunError: members that are damaged, or could not be evaluated.
            DivergedError: members of the result that diverged.
        """
        if self.problems:
            raise RunError(
                "\n".join(self.problems),
                hint="put back what is damaged or gone from a copy, or remove that run, and the "
                "same command trains it again",
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
    check_place(path, to_save=True)
    directory.check(settings, path, force=force)
    task = _task(settings, device_kind, watch)

    def tell(text: str) -> None:
        watch(Warned(text))

    with asked_to_stop() as stopping, directory.locked(path, force=force) as left_alone:
        for left in left_alone:
            tell(f"{left}: not vaectl's, and left alone")
        if not force:
            directory.check(settings, path, force=False)  # another process may have been here
        directory.write_settings(path, settings)  # first: by this it is a comparison
        folder = Folder(path)
        left_out = unsealed.seal(folder, tell)
        ledger = Ledger(folder, tell, left_out)
        ledger.check_data(settings.base.data.source, task.dataset)
        running = _Running(folder, settings, task, ledger, stopping)
        for difference in _differences(ledger, task.place):
            tell(f"since trials that are there, {difference}")
        try:
            with jax.default_device(task.device):
                planned = running.run()
                evaluations = [running.evaluated(trial) for trial in planned]
        except KeyboardInterrupt:
            raise InterruptedRunError(
                f"interrupted; trials that are done: {len(ledger.ended)}",
                hint="the same command continues after them",
            ) from None
        ledger.sync()
        ended = [ledger.ended[running.key(trial)] for trial in planned]
        return Result(
            path,
            settings,
            planned,
            [each.outcome for each in ended],
            [each.rows for each in ended],
            evaluations,
            [each.record for each in ended if each.record],
            running.problems,
        )


def _task(settings: Comparison, device_kind: DeviceKind, watch: Watch) -> Task:
    """Choose the device and read the data; check that every entry fits."""
    device = devices.select(device_kind)
    watch(Phase(f"reading {settings.base.data.source}"))
    dataset = data.load(settings.base.data)
    held_out = len(dataset.validation.images)
    programs = {_program(one, dataset) for one in settings.entries.values()}
    for each in programs:
        each.check_steps()
    with jax.default_device(device):  # as in training: what is traced here is not traced again
        # each is checked, whatever another one needs
        streamed = {footprint.check_training(each, held_out, device) for each in programs}
    for note in (*dataset.notes, *notes(settings.base)):
        watch(Note(f"note: {note}"))
    return Task(settings.base, dataset, device, any(streamed), watch)


@final
class _Running:
    """A comparison under way."""

    def __init__(
        self,
        folder: Folder,
        settings: Comparison,
        task: Task,
        ledger: Ledger,
        stopping: Stopping,
    ) -> None:
        self.problems: list[str] = []
        self._folder, self._settings, self._ledger = folder, settings, ledger
        self._task, self._watch, self._stopping = task, task.watch, stopping
        self._dataset, self._device = task.dataset, task.device
        of_each = len(settings.seeds) + (settings.tuning.members if settings.tuning else 0)
        self._members = of_each * len(settings.entries)
        self._train, self._validation = task.images()
        self._how, _ = population.strategy(task.device, self._train)

    def key(self, trial: Trial) -> str:
        """Return the key of a trial in the ledger, perhaps the one that an older vaectl gave it."""
        keys, ledger = trial.keys(self._dataset.fingerprint), self._ledger
        known = (key for key in keys if key in ledger.ended or ledger.was_sealed(key))
        return next(known, keys[0])

    def run(self) -> list[Trial]:
        """Run what is missing; return all trials, those that tuning added among them."""
        settings = self._settings
        self._plan()
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
                self._plan(-len(settings.seeds))
            planned += result
        return planned

    def evaluated(self, trial: Trial) -> Evaluation | None:
        """Check the run of a trial of the result; evaluate it on the test split, if never done."""
        if trial.stage == "tuning":
            return None
        self._leave_if_asked()
        ended, run = self._ended(trial), self._folder.folder(trial.run_name)
        checkpoint = None if ended.error else ended.checkpoint
        found = None
        try:
            for file in members.mend(run, ended):
                sealed = self._ledger.file(ended.key)
                self._watch(Warned(f"{file}: changed or gone: made again from {sealed}"))
            if checkpoint:
                found = self._tested(trial, ended, checkpoint)
            members.check_checkpoints(run, ended)
            if checkpoint and found is None:
                found = self._test(trial, ended, checkpoint)
        except (RunError, DivergedError) as error:  # the others are evaluated all the same
            self.problems.append(error.message)
        return found

    def _tested(self, trial: Trial, ended: Ended, checkpoint: Info) -> Evaluation | None:
        """Return the evaluation that is sealed, if it is the one that is asked for."""
        sealed = self._ledger.tested(ended)
        if sealed is None:
            return None
        e, samples = sealed.evaluation, self._settings.importance_samples
        told = e.split, e.samples, e.importance_samples, e.seed, e.images, e.epoch, e.step
        images = len(self._dataset.test.images)
        asked = "test", SAMPLES, samples, SEED, images, checkpoint.epoch, checkpoint.step
        same_code = e.code_size == trial.settings.model.code_size
        return e if told == asked and same_code else None

    def _test(self, trial: Trial, ended: Ended, checkpoint: Info) -> Evaluation:
        """Evaluate the run of a trial on the test split, and seal that."""
        self._watch(Phase(f"evaluating {trial.run_name} on the test split"))
        rundir = RunDir(self._folder.folder(trial.run_name))
        model = trained.load(rundir, checkpoint.epoch)
        settings = model.settings.model_copy(update={"checkpoint": trial.settings.checkpoint})
        if (settings, model.checkpoint) != (trial.settings, checkpoint):
            raise RunError(
                f"{rundir.path}: not the run of {trial}",
                hint="was it changed just now? Delete it, and it is trained again",
            )
        found = assessment.assess(
            model,
            "test",
            samples=SAMPLES,
            importance_samples=self._settings.importance_samples,
            seed=SEED,
        )
        self._ledger.add_test(Tested(key=ended.key, checkpoint=checkpoint.digest, evaluation=found))
        try:
            rundir.write_evaluation(found)  # for whoever looks at the run alone
        except RunError as error:
            self._watch(Note(error.message))
        return found

    def _ended(self, trial: Trial) -> Ended:
        return self._ledger.ended[self.key(trial)]

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
                if rates:
                    self._plan(len(rates) * len(tuning.seeds))
        return tried

    def _plan(self, more: int = 0) -> None:
        """Tell how many members there are, after so many more."""
        self._members += more
        self._watch(Planned(self._members, self._settings.base.epochs))

    def _scores(self, tried: Sequence[Trial]) -> dict[float, float]:
        return plan.scores([self._ended(trial).outcome for trial in tried])

    def _fit(self, wanted: Sequence[Trial]) -> None:
        """Train those of one optimizer's members that are not in the ledger."""
        missing = []
        for trial in wanted:
            if self._done(trial):
                self._watch(Stopped(_member(trial), "finished"))
            else:
                missing.append(trial)
        if not missing:
            return
        label = missing[0].label
        program = _program(missing[0].settings, self._dataset)
        for trial in missing:
            self._tell_why(trial)
            if trial.stage == "result":
                self._make_way(trial.run_name)
        starts = jax.device_put([Member.of(t.settings) for t in missing], self._device)
        self._watch(Phase(f"{label}: {len(missing)} member{'s' * (len(missing) > 1)}"))
        with quiet_orbax(), ExitStack() as running:
            tracks = [_Member(trial, running.enter_context(ExitStack())) for trial in missing]
            for index, event in population.fit(
                program, starts, self._train, self._validation, self._how
            ):
                member = tracks[index]
                if not member.started:
                    self._start(member)
                if isinstance(event, DivergedError):
                    self._end(member, str(event))
                    continue
                member.take(event)
                self._watch(event._replace(member=member.name))
                if isinstance(event, Epoch) and event.epoch == program.epochs:
                    self._end(member)
                    continue  # others that train beside it have ended in this epoch too
                self._leave_if_asked()

    def _start(self, member: _Member) -> None:
        """Begin a member; one of the result begins its run."""
        member.started = True
        if member.trial.stage == "result":
            member.recorder = member.open.enter_context(self._recording(member))
        directory_ = member.recorder.rundir.path if member.recorder else None
        self._watch(Started(member.name, member.trial.settings, self._dataset, directory_))

    @contextmanager
    def _recording(self, member: _Member) -> Iterator[Recorder]:
        """Write the run of a trial of the result; its record says how it ended."""
        settings, name = member.trial.settings, member.trial.run_name
        with RunDir.create(self._folder.path, name, name, force=False) as rundir:
            task = self._task._replace(settings=settings)
            record = experiment.first_record(task, rundir)
            recorder = Recorder(rundir, settings, record, columns(task.program))
            recorder.begin(directory.member_header(name))
            try:
                with recorder.saving():
                    yield recorder
            except BaseException as error:
                recorder.end("interrupted", str(error))
                raise
            recorder.end("failed" if member.error else "finished", member.error)

    def _leave_if_asked(self) -> None:
        if self._stopping():
            raise KeyboardInterrupt  # the first signal only asked to stop

    def _done(self, trial: Trial) -> bool:
        """Tell whether a trial is sealed, and its run is there if it leaves one.

        What is sealed under its key, but is not of this trial, is discarded.
        """
        key = self.key(trial)
        ended = self._ledger.ended.get(key)
        if ended is None:
            return False
        settings = trial.settings
        asked = trial.stage, settings.optimizer.name, trial.learning_rate, settings.seed
        told = ended.stage, ended.optimizer, ended.learning_rate, ended.seed
        whole = ended.epochs < settings.epochs if ended.error else ended.epochs == settings.epochs
        if asked != told or not whole:
            self._ledger.discard(key, f"not of {trial}")
            return False
        if trial.stage == "tuning":
            return True
        # under another label it left another run
        run = self._folder.folder(trial.run_name)
        return ended.label == trial.label and members.is_there(run, ended)

    def _tell_why(self, trial: Trial) -> None:
        """Tell of a trial that is trained again because something of it is gone."""
        key, run = self.key(trial), self._folder.path / trial.run_name
        ended, file = self._ledger.ended.get(key), self._ledger.file(key)
        if ended is None and self._ledger.was_sealed(key):
            what = "damaged or changed" if file.exists() else "gone"
            self._watch(Warned(f"{file}: {what}: {trial} is trained again"))
        if ended is not None and ended.label == trial.label and not run.exists():
            self._watch(Warned(f"{run}: gone: {trial} is trained again"))

    def _end(self, member: _Member, error: str = "") -> None:
        """Write down a member that ended; one of the result leaves a run."""
        trial, member.error = member.trial, error
        member.open.close()
        recorder = member.recorder
        files = members.small_files(recorder.rundir) if recorder else {}
        self._watch(Stopped(member.name, "failed" if error else "finished", error))
        settings = trial.settings
        ended = Ended(
            key=self.key(trial),
            number=self._ledger.next_number,
            label=trial.label,
            stage=trial.stage,
            optimizer=settings.optimizer.name,
            learning_rate=trial.learning_rate,
            seed=settings.seed,
            error=error,
            quantity=settings.objective.chosen.best,
            rows=member.rows,
            files=files,
        )
        self._ledger.add(ended)
        came_to = error or f"best validation {label_of(ended.quantity)} {ended.outcome.best:.2f}"
        self._watch(Note(f"{trial}: {came_to}"))

    def _make_way(self, name: str) -> None:
        """Remove a run of that name that never ended, and move anything else aside."""
        there = self._folder.names()
        if name not in there:
            return
        run = self._folder.folder(name)
        if self._folder.kind(name) == "folder" and RunDir(run).is_locked():
            raise RunError(f"{run.path}: another process writes in it", hint="wait for it")
        if directory.remove_unended(self._folder, name):
            return
        aside = next(place for n in count(1) if (place := f"{name}.{n}") not in there)
        directory.move(self._folder, name, aside)
        self._watch(Warned(f"{name} is there, and not of a sealed trial: renamed to {aside}"))


def _differences(ledger: Ledger, place: Device) -> list[str]:
    """Say what differs from when the trials that are there ran, and may change last bits."""
    records = [trial.record for trial in ledger.ended.values() if trial.record]
    versions = environment.versions()
    found = [each for r in records for each in resumption.differences(r, versions, place)]
    return list(dict.fromkeys(found))


def _member(trial: Trial) -> str:
    """Return a short name that tells a trial from all others."""
    of_tuning = f" at {trial.learning_rate:g}" if trial.stage == "tuning" else ""
    return trial.run_name + of_tuning


def _program(settings: Config, dataset: data.Dataset) -> Program:
    return Program.of(settings, images=len(dataset.train.images), image_shape=dataset.image_shape)


@final
class _Member:
    """A trial while it trains."""

    def __init__(self, trial: Trial, opened: ExitStack) -> None:
        self.trial = trial
        self.name = _member(trial)
        self.rows: list[Row] = []
        self.started = False
        self.error = ""
        """Why it diverged."""
        self.open = opened
        """The contexts that are left when it ends."""
        self.recorder: Recorder | None = None
        """The writer of its run, if it leaves one."""

    def take(self, event: Chunk | Epoch) -> None:
        """Write an event into the run, and keep an epoch's numbers."""
        if self.recorder:
            self.recorder.take(event)
        if isinstance(event, Epoch):
            self.rows += rows_of(event)
