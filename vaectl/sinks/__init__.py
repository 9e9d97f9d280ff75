"""Sinks: where results go beside the run directory. Each has a file of its own."""

from vaectl.base.plugs import import_all
from vaectl.sinks.base import Sink, parse

__all__ = ["Sink", "parse"]

import_all(__name__)
