"""Points, planes and paths in the latent space."""

import itertools
from typing import Literal

import numpy as np
from jax.scipy.special import ndtri
from jax.scipy.stats import norm
from jaxtyping import Float, Int32

Spacing = Literal["linear", "quantile"]
Path = Literal["linear", "spherical"]


def axis(grid: int, limit: float, spacing: Spacing) -> Float[np.ndarray, " grid"]:
    """Return coordinates from -limit to limit.

    `linear` has equal distances (the paper's Fig. 5). `quantile` has equal probabilities under the
    standard normal prior: Phi^-1 of equal steps from Phi(-limit) to Phi(limit), as in Kingma &
    Welling 2013, appendix A.
    """
    if grid == 1:
        return np.zeros(1, np.float32)
    if spacing == "linear":
        return np.linspace(-limit, limit, grid, dtype=np.float32)
    inside = ndtri(np.linspace(norm.cdf(-limit), norm.cdf(limit), grid))
    return np.clip(np.asarray(inside, np.float32), -limit, limit)


def plane(
    coordinates: Float[np.ndarray, " grid"],
    dims: tuple[int, int],
    anchor: Float[np.ndarray, " code"],
) -> Float[np.ndarray, "grid grid code"]:
    """Return codes on a plane through `anchor`: dims[0] grows to the right, dims[1] upwards."""
    grid = len(coordinates)
    codes = np.tile(np.asarray(anchor, np.float32), (grid, grid, 1))
    codes[:, :, dims[0]] = coordinates[None, :]
    codes[:, :, dims[1]] = coordinates[::-1, None]
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
    """Return pairs of images of different classes; each starts with the end of the last."""
    rng = np.random.default_rng(seed)
    kinds = labels if labels is not None and len(set(labels.tolist())) > 1 else np.arange(images)
    stops: list[int] = []
    while len(stops) <= rows:
        for i in rng.permutation(images).tolist():
            if not stops or images == 1 or kinds[i] != kinds[stops[-1]]:
                stops.append(i)
    return list(itertools.pairwise(stops[: rows + 1]))


def most_active(kl_by_dimension: Float[np.ndarray, " code"]) -> tuple[int, int]:
    """Return the two dimensions of the highest KL, the highest first."""
    first, second = np.argsort(kl_by_dimension)[::-1][:2].tolist()
    return first, second
