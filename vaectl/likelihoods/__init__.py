"""Likelihoods p(x|z), one file each: the distribution of pixels given a decoder's outputs."""

from vaectl.base.plugs import import_all

import_all(__name__)
