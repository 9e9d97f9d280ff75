"""Models, one file each: an encoder and a decoder."""

from vaectl.base.plugs import import_all

import_all(__name__)
