"""Optimizers: from a gradient to a direction. Each has a file of its own."""

from vaectl.base.plugs import import_all

import_all(__name__)
