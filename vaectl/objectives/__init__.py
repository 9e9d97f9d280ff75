"""Objectives, one file each: what training maximizes."""

from vaectl.base.plugs import import_all

import_all(__name__)
