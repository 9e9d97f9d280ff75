"""MLflow: runs of a tracking server, which `mlflow server` starts."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar, final

import numpy as np

from vaectl.runs import resume
from vaectl.sinks import _identity
from vaectl.sinks._sheets import Shows, sheets
from vaectl.sinks.base import Log, Results, Status, Training

if TYPE_CHECKING:
    from mlflow.entities import Metric
    from mlflow.tracking import MlflowClient

FOLDER = "mlflow"
"""The file in the run directory that has the identity of MLflow's run."""
SERVER = "http://127.0.0.1:5000"
"""The address that `mlflow server` has."""
_MOST_PARAMETERS, _MOST_METRICS, _LONGEST = 100, 1000, 6000
"""MLflow's limits of a call, and of the characters of a parameter."""
_STATUS: Mapping[Status, str] = {"finished": "FINISHED", "interrupted": "KILLED"}
_ENVIRONMENT = {
    # by default MLflow retries for four minutes if a server is down
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}
"""Variables of MLflow, for those that the user has not set."""


class MLflow(Shows, name="mlflow"):
    """A run of an MLflow server: metrics, parameters and pictures."""

    needs: ClassVar[tuple[str, ...]] = ("mlflow",)
    leaves: ClassVar[Mapping[str, Mapping[str, bytes]]] = {FOLDER: _identity.MADE}

    uri: str | None = None
    """The address of the server; null: MLFLOW_TRACKING_URI, or that of a server on this machine."""
    experiment: str = "vaectl"
    """The experiment in which MLflow shows the run; it is made if there is none."""

    def open(self, training: Training) -> Log:
        """Begin a run, or go on with the one that the training has."""
        for name, value in _ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        from mlflow.tracking import MlflowClient

        for logger in ("urllib3.connectionpool", "mlflow"):  # vaectl warns once of a failure
            logging.getLogger(logger).setLevel(logging.ERROR)
        uri = self.uri or os.environ.get("MLFLOW_TRACKING_URI") or SERVER
        with _asking(uri):
            return _Run(MlflowClient(tracking_uri=uri, registry_uri=uri), self.experiment, training)


@contextmanager
def _asking(uri: str) -> Iterator[None]:
    """Turn errors of a server that does not answer into a short message."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        if "failed with exception" not in str(error):
            raise
        raise ConnectionError(f"{uri} does not answer") from error


@final
class _Run:
    """A run of the server.

    A server only adds points to a curve, and removes none. So a step is written once. If a resumed
    training differs from the points on the server, a new run gets the points before the difference,
    and the old run is deleted.
    """

    def __init__(self, client: MlflowClient, experiment: str, training: Training) -> None:
        self._client, self._training = client, training
        self._time, self._last = training.time, training.step
        self._uri = client.tracking_uri
        self._quantity = f"{training.settings.objective.chosen.best}/validation"
        self._experiment = self._made(experiment)
        known = _identity.recall(training, FOLDER, self._uri)
        if known and self._is_there(known):
            client.update_run(known, status="RUNNING")
            # a tag may change, a parameter may not: a training may go on for more epochs
            client.set_tag(known, "epochs", str(training.settings.epochs))
            self._run = known
        else:
            self._run = self._begin()
        points = client.get_metric_history(self._run, self._quantity)
        self._points: dict[int, float] = {point.step: point.value for point in points}

    def write(self, results: Results) -> None:
        """Write the numbers of an epoch in one call, then its pictures."""
        from mlflow.entities import Metric

        values = {
            f"{name}/{row.split}": value
            for row in results.rows
            for name, value in {**row.terms, "seconds": row.seconds}.items()
        }
        self._time, self._last = results.time, results.step
        now = values.get(self._quantity)
        with _asking(self._uri):
            if now is not None and not _same(now, self._points.get(results.step, now)):
                self._forget_from(results.step)
            if now is not None and results.step not in self._points:
                time = round(results.time * 1000)
                metrics = [Metric(key, value, time, results.step) for key, value in values.items()]
                self._client.log_batch(self._run, metrics=metrics)
                self._points[results.step] = now
            for name, sheet in sheets(results.pictures).items() if results.pictures else ():
                image: Any = np.round(sheet * 255).astype(np.uint8)
                file = f"{name}/{results.epoch:06}.png"
                self._client.log_image(self._run, image, artifact_file=file)

    def close(self, status: Status) -> None:
        """Record how the training ended; points after its last step belong to lost training."""
        with _asking(self._uri):
            if max(self._points, default=0) > self._last:
                self._forget_from(self._last + 1)
            self._client.set_terminated(
                self._run, _STATUS.get(status, "FAILED"), round(self._time * 1000)
            )

    def _made(self, name: str) -> str:
        """Return the number of an experiment, which is made if there is none."""
        from mlflow.exceptions import MlflowException

        if (found := self._client.get_experiment_by_name(name)) is None:
            try:
                return str(self._client.create_experiment(name))
            except MlflowException:  # another process has made it since
                if (found := self._client.get_experiment_by_name(name)) is None:
                    raise
        return str(found.experiment_id)

    def _is_there(self, run: str) -> bool:
        from mlflow.exceptions import MlflowException

        try:
            return str(self._client.get_run(run).info.lifecycle_stage) == "active"
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return False

    def _begin(self, points: Sequence[Metric] = ()) -> str:
        """Begin a run with all settings, and with points that another one had."""
        from mlflow.entities import Param

        training = self._training
        settings = resume.settled(training.settings)
        parameters = [Param(key, str(value)[:_LONGEST]) for key, value in settings.items()]
        started = round(training.time * 1000)
        tags = {"epochs": str(training.settings.epochs)}
        made = self._client.create_run(self._experiment, started, tags, training.name)
        run = str(made.info.run_id)
        for first in range(0, len(parameters), _MOST_PARAMETERS):
            self._client.log_batch(run, params=parameters[first : first + _MOST_PARAMETERS])
        for first in range(0, len(points), _MOST_METRICS):
            self._client.log_batch(run, metrics=points[first : first + _MOST_METRICS])
        _identity.remember(training, FOLDER, self._uri, run)
        return run

    def _forget_from(self, step: int) -> None:
        """Go on in a new run with the points before a step; the old run is deleted."""
        old = self._run
        points = [
            point
            for key in self._client.get_run(old).data.metrics
            for point in self._client.get_metric_history(old, key)
            if point.step < step
        ]
        self._run = self._begin(points)
        self._points = {step_: value for step_, value in self._points.items() if step_ < step}
        self._client.delete_run(old)


def _same(one: float, other: float) -> bool:
    """Tell whether numbers are equal, as metrics.csv has them."""
    return math.isclose(one, other, rel_tol=1e-6, abs_tol=1e-5) or (
        math.isnan(one) and math.isnan(other)
    )
