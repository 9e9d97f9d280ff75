"""Optimizers, one file each: rules that turn a gradient into a direction."""

from vaectl.base.plugs import import_all

import_all(__name__)
