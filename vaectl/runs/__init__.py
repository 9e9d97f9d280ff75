"""Run directories: written, read, found."""
