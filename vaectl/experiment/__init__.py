"""Experiments: from a configuration to a run directory, once or in parts."""

from vaectl.experiment.going_on import first_record, go_on
from vaectl.experiment.result import Result
from vaectl.experiment.runner import Stopping, first_state, resume, run, same_everywhere
from vaectl.experiment.task import Task

__all__ = [
    "Result",
    "Stopping",
    "Task",
    "first_record",
    "first_state",
    "go_on",
    "resume",
    "run",
    "same_everywhere",
]
