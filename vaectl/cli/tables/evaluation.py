"""Tables of evaluations, diagnoses and published results."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from vaectl.base.plural import plural
from vaectl.base.terminal import show
from vaectl.cli.tables import begin, print_table
from vaectl.runs.diagnosis import Diagnosis, Nats, Samples
from vaectl.runs.record import ACTIVE, Estimate, Evaluation

if TYPE_CHECKING:  # these load JAX
    from vaectl.config.published import Verdict


def show_evaluation(e: Evaluation) -> None:
    """Print means and standard errors, with split, binarization and estimators."""
    where = e.where or f"epoch {e.epoch}"
    show(f"{e.run}, {where}: {e.split} split, {e.images:,} images, {e.binarization}")
    bits = e.bits_per_dimension
    in_bits = ("bits per dimension", "standard error") if bits else ()
    table = begin("nats per image", "mean", "standard error", *in_bits)
    drawn = plural(e.samples, "sample")
    rows = {"elbo": f"ELBO, {drawn}", "kl": "KL", "nll": f"NLL, {drawn}"}
    if e.log_likelihood:
        rows["log_likelihood"] = e.bound
    for key, name in rows.items():
        found = [f"{x:.2f}" for _, x in getattr(e, key)]
        found += [f"{x:.4f}" for _, x in getattr(bits, key)] if bits else []
        table.add_row(name, *found)
    print_table(table)
    show(f"active units: {e.active_units} of {e.code_size} (A_u > {ACTIVE})")
    largest = sorted(e.kl_by_dimension, reverse=True)
    shown = " ".join(f"{kl:.2f}" if kl >= 0.1 else f"{kl:.2g}" for kl in largest[:20])
    show(f"KL by dimension, largest first: {shown}{' ...' * (len(largest) > 20)}")
    if e.broken_samples is not None:
        share = f"{e.broken_samples / e.prior_samples:.1%} of {e.prior_samples:,}"
        show(
            f"samples from the prior that look broken: {share}{_told_base(e.broken_images)}, by "
            "their ink or their distance to the training images; blurred ones do not count"
        )
    if 2 * e.active_units < e.code_size:
        show("warning: posterior collapse: most dimensions of the code are not used")


def show_verdict(measure: str, verdict: Verdict) -> None:
    """Print a published value and ours, with its standard error."""
    table = begin(f"{measure}, nats per image", "value", "standard error")
    published = "a curve" if verdict.published is None else f"{verdict.published:.2f}"
    table.add_row("published", published, "not given")
    ours = "not run" if verdict.ours is None else f"{verdict.ours:.2f}"
    error = "" if verdict.standard_error is None else f"{verdict.standard_error:.2f}"
    table.add_row("ours", ours, error)
    print_table(table)


def show_diagnosis(d: Diagnosis) -> None:
    """Print where the nats go, how log p(x) is known, and the advice."""
    where = d.where or f"epoch {d.epoch}"
    show(f"{d.run}, {where}: {d.binarization}; standard errors in brackets")
    _show_nats(d)
    for nats in (d.held_out, d.train):
        a = nats.annealing
        show(
            f"{nats.subset} {nats.split} images: log {d.of_image} {_told(a.log_p)} by annealing "
            f"from the {d.origin}, effective {a.effective:.1f} of {d.chains} chains; "
            f"IW-{d.importance_samples} is {_told(a.difference)} below it, effective "
            f"{a.importance_effective:.1f} samples"
        )
    b = d.bracket
    show(
        f"{b.images} simulated images: log {d.of_image} from {b.lower.mean:.2f} to "
        f"{b.upper.mean:.2f}, {_told(b.gap)} apart"
    )
    g = d.aggregate
    mixture = (
        f"mixtures of the posteriors of each class, {g.posteriors:,} in all, leaves at most the "
        "logarithm of their number as"
        if d.conditional
        else f"a mixture of N = {g.posteriors:,} posteriors, leaves at most log N = "
        f"{math.log(g.posteriors):.1f} nats of"
    )
    show(
        f"KL({d.of_codes} || p(z)) of the aggregate posterior, in nats: at least "
        f"{_told(g.least)}, at most {_told(g.most)}; the upper bound, by {mixture} mutual "
        "information"
    )
    show(f"active units: {d.active_units} of {d.code_size} (A_u > {ACTIVE})")
    show(
        f"overfitting: encoder {_told(d.encoder_overfitting)} (amortization gap, held-out minus "
        f"train), decoder {_told(d.decoder_overfitting)} (log {d.of_image}, train minus held-out)"
    )
    if d.samples:
        show(_told_samples(d.samples))
    for sentence in d.advice:
        show(f"advice: {sentence}")
    for warning in d.warnings:
        show(f"warning: {warning}")


def _show_nats(d: Diagnosis) -> None:
    """Print the parts of log p(x) on both splits."""
    splits = (d.held_out, d.train)
    table = begin("nats per image", *(f"{nats.split}, {nats.images:,}" for nats in splits))
    rows: dict[str, Callable[[Nats], Estimate]] = {
        "NLL": lambda nats: nats.nll,
        "KL": lambda nats: nats.kl,
        "ELBO = -(NLL + KL)": lambda nats: nats.elbo,
        "amortization gap, encoder to best Gaussian": lambda nats: nats.amortization,
        "approximation gap, best Gaussian to posterior": lambda nats: nats.approximation,
        f"log {d.of_image} = ELBO + gaps": lambda nats: nats.log_p,
    }
    for name, part in rows.items():
        table.add_row(name, *(_told(part(nats)) for nats in splits))
    print_table(table)


def _told(estimate: Estimate) -> str:
    return f"{estimate.mean:.2f} ({estimate.standard_error:.2f})"


def _told_base(share: float | None) -> str:
    """Say how many images look broken; an older vaectl did not count them."""
    return "" if share is None else f", and {share:.1%} of held-out images"


def _told_samples(s: Samples) -> str:
    """Say how many samples look broken, and why."""
    told = (
        f"{s.prior:,} of {s.count:,} samples from the prior look broken, {s.aggregate:,} from the "
        f"aggregate posterior{_told_base(s.images)}"
    )
    if not s.prior:
        return told
    return (
        f"{told}; of those from the prior, {s.ink:,} because of their ink, {s.prior - s.ink:,} "
        f"only because of their distance to the training images; {s.holes:,} have codes that "
        "almost no image has"
    )
