"""Points, planes and paths in the latent space."""

import itertools
from typing import Literal

import numpy as np
from jaxtyping import Float, Int32
from scipy.special import log_ndtr, ndtri_exp

from vaectl.base.errors import ConfigError

Spacing = Literal["linear", "quantile"]
Path = Literal["linear", "spherical"]


def name(dim: int) -> str:
    """Return the name of a dimension of the code: z with its number as an index."""
    return "z" + str(dim).translate(str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉"))


def axis(grid: int, low: float, high: float, spacing: Spacing) -> Float[np.ndarray, " grid"]:
    """Return coordinates from `low` to `high`; a single one is in their middle.

    `linear` has equal distances (the paper's Fig. 5). `quantile` has equal probabilities under the
    standard normal prior: Phi^-1 of equal steps from Phi(low) to Phi(high), as in Kingma & Welling
    2013, appendix A. The probabilities are computed as logarithms of the lower tail, since
    probabilities close to 1 would round to 1.
    """
    if grid == 1:
        return np.full(1, (low + high) / 2, np.float32)
    if spacing == "linear":
        return np.linspace(low, high, grid, dtype=np.float32)
    if low > 0:
        return -axis(grid, -high, -low, spacing)[::-1]
    part = np.linspace(0, 1, grid)[1:-1]
    inside = ndtri_exp(np.logaddexp(np.log1p(-part) + log_ndtr(low), np.log(part) + log_ndtr(high)))
    return np.concatenate([[low], inside, [high]]).astype(np.float32)


def spread(
    codes: Float[np.ndarray, " images"], grid: int, spacing: Spacing
) -> Float[np.ndarray, " grid"]:
    """Return coordinates that span the middle 99 % of codes in one dimension.

    `linear` has equal distances, `quantile` equal numbers of codes between neighbours.
    """
    if grid == 1:
        return np.full(1, np.median(codes), np.float32)
    points: np.ndarray = np.quantile(codes, np.linspace(0.005, 0.995, grid))
    if spacing == "linear":
        points = np.linspace(points[0], points[-1], grid)
    return np.asarray(points, np.float32)


def within(
    codes: Float[np.ndarray, " images"], grid: int, low: float, high: float
) -> Float[np.ndarray, " grid"]:
    """Return coordinates from `low` to `high`, with equal numbers of codes between neighbours.

    Raises:
        ConfigError: there are fewer codes than coordinates.
    """
    inside = codes[(codes >= low) & (codes <= high)]
    if len(inside) < grid:
        raise ConfigError(
            f"--range {low:g},{high:g}: it has {len(inside)} of {len(codes):,} codes of the prior",
            hint="use a wider range, or --spacing linear",
        )
    if grid == 1:
        return np.full(1, np.median(inside), np.float32)
    between = np.quantile(inside, np.linspace(0, 1, grid)[1:-1])
    return np.concatenate([[low], between, [high]]).astype(np.float32)


def density(
    mu: Float[np.ndarray, " images"],
    log_var: Float[np.ndarray, " images"],
    z: Float[np.ndarray, " points"],
) -> Float[np.ndarray, " points"]:
    """Return the density of the aggregate posterior in one dimension.

        q(z) = 1/N sum_i N(z; mu_i, exp(log_var_i) + h^2),
        h = 0.9 min(s, r / 1.34) N^(-1/5),  s and r the means' deviation and interquartile range

    Without h it is the mixture of the posteriors of these images; h accounts for images that are
    not among them. Silverman 1986, eq. 3.31.
    """
    spread = float(np.subtract(*np.percentile(mu, (75, 25)))) / 1.34
    width = 0.9 * min(float(mu.std()), spread) * len(mu) ** -0.2
    scale = np.sqrt(np.exp(log_var) + width**2)
    found = np.array([np.mean(np.exp(-0.5 * ((at - mu) / scale) ** 2) / scale) for at in z])
    return np.asarray(found / np.sqrt(2 * np.pi))


def plane(
    x: Float[np.ndarray, " columns"],
    y: Float[np.ndarray, " rows"],
    dims: tuple[int, int],
    anchor: Float[np.ndarray, " code"],
) -> Float[np.ndarray, "rows columns code"]:
    """Return codes on a plane through `anchor`: dims[0] grows to the right, dims[1] upwards."""
    codes = np.tile(np.asarray(anchor, np.float32), (len(y), len(x), 1))
    codes[:, :, dims[0]] = x[None, :]
    codes[:, :, dims[1]] = y[::-1, None]
    return codes


def way(
    start: Float[np.ndarray, "*shape"], end: Float[np.ndarray, "*shape"], steps: int, path: Path
) -> Float[np.ndarray, "steps ..."]:
    """Return points on a path from `start` to `end`, both included.

        linear      (1 - t) a + t b
        spherical   (sin((1 - t) w) a + sin(t w) b) / sin w,  w the angle between a and b

    `spherical` keeps the length of codes, which in many dimensions lie close to a sphere. Where it
    is not defined, at angles close to 0 or pi and at zero codes, the path is linear.
    """
    t = np.linspace(0, 1, steps).reshape(-1, *[1] * start.ndim)
    weights = 1 - t, t
    if path == "spherical":
        lengths = np.linalg.norm(start) * np.linalg.norm(end)
        angle = np.arccos(np.clip(np.sum(start * end) / lengths, -1, 1)) if lengths > 0 else 0.0
        if np.sin(angle) > 1e-3:
            weights = np.sin((1 - t) * angle) / np.sin(angle), np.sin(t * angle) / np.sin(angle)
    points: np.ndarray = weights[0] * start + weights[1] * end
    return points.astype(np.float32)


def chain(
    rows: int, images: int, labels: Int32[np.ndarray, " images"] | None, seed: int
) -> list[tuple[int, int]]:
    """Return pairs of images of different classes; each starts with the end of the last.

    Without several classes the images differ, of which there are at least two.
    """
    rng = np.random.default_rng(seed)
    kinds = labels if labels is not None and len(set(labels.tolist())) > 1 else np.arange(images)
    stops: list[int] = []
    while len(stops) <= rows:
        for i in rng.permutation(images).tolist():
            if not stops or kinds[i] != kinds[stops[-1]]:
                stops.append(i)
    return list(itertools.pairwise(stops[: rows + 1]))


def most_active(kl_by_dimension: Float[np.ndarray, " code"]) -> tuple[int, int]:
    """Return the two dimensions of the highest KL, the highest first."""
    first, second = np.argsort(kl_by_dimension)[::-1][:2].tolist()
    return first, second
