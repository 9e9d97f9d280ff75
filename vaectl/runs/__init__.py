"""Run directories: writing, reading and finding them."""
