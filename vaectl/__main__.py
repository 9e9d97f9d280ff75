"""`python -m vaectl` is `vaectl`."""

from vaectl.cli import main

main()
