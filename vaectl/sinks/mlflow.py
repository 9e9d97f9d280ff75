"""MLflow: runs of a tracking server, which `mlflow server` starts."""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, ClassVar, final

import numpy as np

from vaectl.base.errors import ConfigError
from vaectl.base.section import Count
from vaectl.runs import resume
from vaectl.sinks import _identity
from vaectl.sinks._sheets import sheets
from vaectl.sinks.base import Log, Results, Sink, Status, Training

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

FOLDER = "mlflow"
"""In the run directory: it has the identity of MLflow's run."""
SERVER = "http://127.0.0.1:5000"
"""The address that `mlflow server` has."""
_MOST_PARAMETERS, _LONGEST_PARAMETER = 100, 6000  # limits of MLflow, of a call and of a value
_STATUS: Mapping[Status, str] = {"finished": "FINISHED", "interrupted": "KILLED"}
_ENVIRONMENT = {
    # by default it asks a server that is down for four minutes
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}
"""Variables of MLflow, for those that the user has not set."""


class MLflow(Sink, name="mlflow"):
    """A run of an MLflow server: metrics, parameters and pictures."""

    leaves: ClassVar[Mapping[str, Mapping[str, bytes]]] = {FOLDER: _identity.MADE}

    uri: str | None = None
    """The address of the server; null: MLFLOW_TRACKING_URI, or that of a server on this machine."""
    experiment: str = "vaectl"
    """The experiment in which MLflow shows the run; it is made if there is none."""
    images_every: Count | None = 10
    """Epochs between samples and reconstructions; the last epoch always has them. null: none."""

    def check(self) -> None:
        """Refuse to follow without MLflow.

        Raises:
            ConfigError: it is not installed.
        """
        if find_spec("mlflow") is None:
            raise ConfigError(
                "the sink mlflow needs mlflow-skinny, which is not installed",
                hint="pip install 'vaectl[mlflow]'",
            )

    @property
    def pictures_every(self) -> int | None:
        """As the setting says."""
        return self.images_every

    def open(self, training: Training) -> Log:
        """Begin a run, or go on with the one that the training has."""
        for name, value in _ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        from mlflow.tracking import MlflowClient

        uri = self.uri or os.environ.get("MLFLOW_TRACKING_URI") or SERVER
        client = MlflowClient(tracking_uri=uri, registry_uri=uri)
        run = _known(client, _identity.recall(training, FOLDER, uri))
        if run is None:
            run = _begin(client, self.experiment, training)
            _identity.remember(training, FOLDER, uri, run)
        return _Run(client, run, training)


def _known(client: MlflowClient, run: str | None) -> str | None:
    """Return the run of a training if the server still has it."""
    from mlflow.exceptions import MlflowException

    if run is None:
        return None
    try:
        return run if client.get_run(run).info.lifecycle_stage == "active" else None
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return None


def _begin(client: MlflowClient, experiment: str, training: Training) -> str:
    from mlflow.entities import Param
    from mlflow.exceptions import MlflowException

    place = client.get_experiment_by_name(experiment)
    try:
        number = client.create_experiment(experiment) if place is None else place.experiment_id
    except MlflowException:  # another process has made it
        made = client.get_experiment_by_name(experiment)
        if made is None:
            raise
        number = made.experiment_id
    run: str = client.create_run(
        number, start_time=round(training.time * 1000), run_name=training.name
    ).info.run_id
    parameters = [
        Param(key, str(value)[:_LONGEST_PARAMETER])
        for key, value in resume.settled(training.settings).items()
    ]
    for first in range(0, len(parameters), _MOST_PARAMETERS):
        client.log_batch(run, params=parameters[first : first + _MOST_PARAMETERS])
    return run


@final
class _Run:
    """A run of the server. It keeps all points of a curve, so a step is written once."""

    def __init__(self, client: MlflowClient, run: str, training: Training) -> None:
        self._client, self._run, self._time = client, run, training.time
        settings = training.settings
        client.update_run(run, status="RUNNING")
        # a tag may change, a parameter may not: a resume may train for more epochs
        for key, value in (("epochs", settings.epochs), ("data.source", settings.data.source)):
            client.set_tag(run, key, str(value))
        quantity = f"{settings.objective.chosen.best}/validation"
        self._written = {point.step for point in client.get_metric_history(run, quantity)}

    def write(self, results: Results) -> None:
        """Write the numbers of an epoch in one call, then its pictures."""
        from mlflow.entities import Metric

        self._time = results.time
        if results.step not in self._written:
            metrics = [
                Metric(f"{name}/{row.split}", value, round(results.time * 1000), results.step)
                for row in results.rows
                for name, value in {**row.terms, "seconds": row.seconds}.items()
            ]
            self._client.log_batch(self._run, metrics=metrics)
        for name, sheet in sheets(results.pictures).items() if results.pictures else ():
            image: Any = np.round(sheet * 255).astype(np.uint8)
            file = f"{name}/{results.epoch:06}.png"
            self._client.log_image(self._run, image, artifact_file=file)

    def close(self, status: Status) -> None:
        """Say how the training ended."""
        ended = round(self._time * 1000)
        self._client.set_terminated(self._run, _STATUS.get(status, "FAILED"), ended)
