"""Executors: where the members of a study train, one file each."""

from vaectl.base.plugs import import_all
from vaectl.executors.base import Executor, default, parse

__all__ = ["Executor", "default", "parse"]

import_all(__name__)
