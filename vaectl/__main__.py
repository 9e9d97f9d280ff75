"""The process: `vaectl`, and `python -m vaectl`."""

from vaectl.interrupts import leave_at_once


def main() -> None:
    """Answer signals before anything is imported that takes time, then run the command line."""
    leave_at_once()
    from vaectl import cli

    cli.main()


if __name__ == "__main__":
    main()
