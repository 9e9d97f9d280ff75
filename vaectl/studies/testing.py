"""The test split of a comparison: used once, by the models that were best on validation."""

from __future__ import annotations

from collections.abc import Callable
from typing import final

from vaectl.base import spent
from vaectl.base.errors import DataError, DivergedError, RunError
from vaectl.base.files import Folder
from vaectl.evaluation import assess as assessment
from vaectl.experiment import Task
from vaectl.runs import trained
from vaectl.runs.directory import RunDir
from vaectl.runs.record import Evaluation
from vaectl.runs.saved import Info
from vaectl.studies import trial_runs
from vaectl.studies.ended import Ended, Tested
from vaectl.studies.ledger import Ledger
from vaectl.studies.trial import Trial
from vaectl.training.events import Note, Phase, Warned

SAMPLES, SEED = 1, 0
"""The samples per image, and the seed, of the ELBO on the test split."""


@final
class Tests:
    """The evaluations of the runs of a comparison's result."""

    def __init__(
        self,
        folder: Folder,
        ledger: Ledger,
        task: Task,
        importance_samples: int,
        stopping: Callable[[], bool],
    ) -> None:
        """Prepare to evaluate.

        Args:
            folder: of the comparison.
            ledger: where evaluations are sealed.
            task: the images of all runs, and the watcher.
            importance_samples: K of the importance-weighted bound.
            stopping: tells whether a signal has asked to stop.
        """
        self.problems: list[str] = []
        """The reasons why runs are damaged, or could not be evaluated."""
        self._folder, self._ledger = folder, ledger
        self._watch, self._dataset = task.watch, task.dataset
        self._importance_samples, self._stopping = importance_samples, stopping

    @spent.on("evaluation")
    def of(self, trial: Trial, ended: Ended) -> Evaluation | None:
        """Check the run of a trial of the result; evaluate it on the test split, if never done.

        Raises:
            KeyboardInterrupt: asked to stop, perhaps between two batches of the evaluation.
        """
        self._heed()
        if trial.stage == "tuning":
            return None
        run = self._folder.folder(trial.run_name)
        checkpoint = None if ended.error else ended.checkpoint
        found = None
        try:
            for file in trial_runs.mend(run, ended):
                sealed = self._ledger.file(ended.key)
                self._watch(Warned(f"{file}: changed or gone: made again from {sealed}"))
            if checkpoint:
                found = self._tested(trial, ended, checkpoint)
            trial_runs.check_checkpoints(run, ended)
            if checkpoint and found is None:
                found = self._test(trial, ended, checkpoint)
        except (DataError, RunError, DivergedError) as error:  # the others are evaluated
            self.problems.append(error.message)
        return found

    def _tested(self, trial: Trial, ended: Ended, checkpoint: Info) -> Evaluation | None:
        """Return the evaluation that is sealed, if it is the one that is asked for."""
        sealed = self._ledger.tested(ended)
        if sealed is None:
            return None
        e, samples = sealed.evaluation, self._importance_samples
        images = len(self._dataset.test.images)
        told = e.split, e.samples, e.importance_samples, e.seed, e.images, e.epoch, e.step
        asked = "test", SAMPLES, samples, SEED, images, checkpoint.epoch, checkpoint.step
        same_code = e.code_size == trial.settings.model.code_size
        return e if told == asked and same_code else None

    def _test(self, trial: Trial, ended: Ended, checkpoint: Info) -> Evaluation:
        """Evaluate the run of a trial on the test split, and seal that."""
        self._watch(Phase(f"evaluating {trial.run_name} on the test split"))
        rundir = RunDir(self._folder.folder(trial.run_name))
        model = trained.load(rundir, checkpoint.epoch, dataset=self._dataset)
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
            importance_samples=self._importance_samples,
            seed=SEED,
            watch=self._heed,
        )
        with spent.on("saving"):
            self._ledger.add_test(
                Tested(key=ended.key, checkpoint=checkpoint.digest, evaluation=found)
            )
            try:
                rundir.write_evaluation(found)  # so that the run is complete by itself
            except RunError as error:
                self._watch(Note(error.message))
        return found

    def _heed(self, _done: int = 0, _total: int = 0) -> None:
        if self._stopping():
            raise KeyboardInterrupt
