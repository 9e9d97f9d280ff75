"""Formats in which a model leaves its run, one file each."""

from vaectl.base.plugs import import_all

import_all(__name__)
