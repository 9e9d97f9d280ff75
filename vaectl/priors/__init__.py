"""Priors p(z), one file each: the distribution of codes before an image is seen."""

from vaectl.base.plugs import import_all

import_all(__name__)
