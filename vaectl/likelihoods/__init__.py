"""Likelihoods: what a decoder's numbers say of the pixels. Each has a file of its own."""

from vaectl.base.plugs import import_all

import_all(__name__)
