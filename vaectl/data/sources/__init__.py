"""Data sources: where images come from. Each has a file of its own."""

from vaectl.base.plugs import import_all

import_all(__name__)
