"""A result in a paper that an experiment repeats, and a value of ours beside it."""

from __future__ import annotations

from typing import Literal, NamedTuple

from pydantic import Field

from vaectl.base.section import Count, Section

AGREEMENT = 2.0
"""Standard errors within which a value of ours agrees with a published one."""


class Ours(Section):
    """The result of a command of this repository."""

    value: float
    """The value in nats per image; higher is better."""
    standard_error: float = Field(ge=0)
    """The standard error over images, of one training."""
    command: str
    """The command that prints it."""


class Published(Section):
    """The result of a paper that an experiment repeats; it does not change what is computed."""

    paper: str
    """Authors, year and title."""
    where: str
    """Its table or figure, and the row."""
    quantity: Literal["elbo", "log_likelihood"]
    """`log_likelihood` is the importance-weighted bound IW-K on log p(x)."""
    importance_samples: Count = 5000
    """K of the bound."""
    split: Literal["train", "validation", "test"] = "test"
    """The split on which it was measured."""
    value: float | None
    """The published value, in nats per image; higher is better; null: the paper draws a curve, and
    prints no number."""
    differs: str = ""
    """The differences from the paper's protocol, such as a shorter training."""
    ours: Ours | None = None
    """The value of this repository; null: it has not been run."""

    @property
    def measure(self) -> str:
        """The quantity, and the split on which it is measured."""
        bound = f"log p(x), lower bound IW-{self.importance_samples}"
        return f"{'ELBO' if self.quantity == 'elbo' else bound}, {self.split} images"


class Verdict(NamedTuple):
    """A value of ours beside a published one, in nats per image."""

    published: float | None
    ours: float | None = None
    standard_error: float | None = None

    @property
    def difference(self) -> float | None:
        """The value of ours minus the published one; positive is better; None without both."""
        if self.published is None or self.ours is None:
            return None
        return self.ours - self.published

    @property
    def word(self) -> Literal["agrees", "better", "worse"] | None:
        """Say if both agree within `AGREEMENT` standard errors of ours, or which one is higher.

        Papers give no standard errors, so only ours counts, and the rule is strict. None: one of
        the values is missing.
        """
        if self.difference is None or self.standard_error is None:
            return None
        if abs(self.difference) <= AGREEMENT * self.standard_error:
            return "agrees"
        return "better" if self.difference > 0 else "worse"

    def __str__(self) -> str:
        if self.difference is None or self.word is None:
            drawn = "the paper draws a curve, and prints no number"
            return f"no verdict: {'there is no value of ours' if self.ours is None else drawn}"
        away = f"{abs(self.difference):.2f} nats"
        within = f"{AGREEMENT:g} standard errors"
        return {
            "agrees": f"agrees: within {within} of the published value",
            "better": f"better than published by {away}, more than {within}",
            "worse": f"worse than published by {away}, more than {within}",
        }[self.word]
