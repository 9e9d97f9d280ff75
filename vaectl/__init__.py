"""vaectl: the command line for variational auto-encoder experiments.

    import vaectl
    model = vaectl.load("runs/mnist-z20-adam-s0")
    mu, log_var = model.encode(images)

Nothing heavy is imported before it is used.
"""

# no import of the standard library: under `python -m vaectl` a file in the current directory could
# stand in for it, until `vaectl.base.surroundings` has been there
from vaectl.version import VERSION as __version__  # noqa: N811

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pathlib import Path

    from vaectl.runs.trained import Trained

__all__ = ["__version__", "load"]


def load(run: "Path | str", checkpoint: str | int = "best") -> "Trained":
    """Load the model of a run directory: see `vaectl.runs.trained.Trained` for what it does.

    Args:
        run: the path of a run directory.
        checkpoint: `best` by validation ELBO, `latest`, or the number of an epoch.

    Raises:
        RunError: not a run, no such checkpoint, or a damaged one.
    """
    from vaectl.runs import trained

    return trained.load(run, checkpoint)
