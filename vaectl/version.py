"""The version of vaectl."""

VERSION = "0.1.0"
