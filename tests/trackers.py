"""What MLflow and Trackio hold of a run: a curve by step; no step may be there twice."""

import json
import os
from pathlib import Path
from typing import Any


def _curve(points: list[tuple[int, float]]) -> dict[int, float]:
    steps = [step for step, _ in points]
    assert len({*steps}) == len(steps), steps
    return dict(sorted(points))


def mlflow_client() -> Any:
    from mlflow.tracking import MlflowClient

    uri = os.environ["MLFLOW_TRACKING_URI"]
    return MlflowClient(tracking_uri=uri, registry_uri=uri)


def identity(run: Path, folder: str) -> str:
    return str(json.loads((run / folder / "run.json").read_text())["run"])


def mlflow_curve(run: Path, quantity: str = "elbo/validation") -> dict[int, float]:
    points = mlflow_client().get_metric_history(identity(run, "mlflow"), quantity)
    return _curve([(point.step, point.value) for point in points])


def trackio_curve(run: Path, quantity: str = "validation/elbo") -> dict[int, float]:
    from trackio.sqlite_storage import SQLiteStorage

    rows = SQLiteStorage.get_logs("vaectl", run_id=identity(run, "trackio"))
    return _curve([(row["step"], row[quantity]) for row in rows])
