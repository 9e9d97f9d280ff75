"""A mixture of Gaussians fitted to codes, to draw others like them."""

from __future__ import annotations

import warnings
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from vaectl.base.errors import ConfigError

COMPONENTS = 10
"""The number of Gaussians, each with a full covariance: as in Ghosh et al. 2020."""


class Fitted(NamedTuple):
    """p(z) = sum_k w_k N(z; mu_k, L_k L_k^T)."""

    weights: Float[np.ndarray, " components"]
    mu: Float[np.ndarray, "components code"]
    factors: Float[np.ndarray, "components code code"]
    """L_k, lower triangular."""

    def sample(
        self, count: int, *, seed: int, temperature: float = 1.0
    ) -> Float[np.ndarray, "count code"]:
        """Draw codes; the temperature multiplies their deviation from the means."""
        rng = np.random.default_rng(seed)
        k = rng.choice(len(self.weights), count, p=self.weights)
        noise = rng.standard_normal((count, self.mu.shape[1]))
        codes = self.mu[k] + temperature * np.einsum("nij,nj->ni", self.factors[k], noise)
        drawn: np.ndarray = codes.astype(np.float32)
        return drawn


def fit(codes: Float[np.ndarray, "codes code"]) -> Fitted:
    """Fit a mixture of Gaussians by expectation maximization.

    Args:
        codes: samples of the posteriors of images.

    Raises:
        ConfigError: scikit-learn is not installed.

    Ghosh et al. 2020 (ex-post density estimation).
    """
    try:
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.mixture import GaussianMixture
    except ImportError:
        raise ConfigError(
            "a mixture is fitted by scikit-learn, which is not installed",
            hint="pip install 'vaectl[mixture]', or sample from the aggregate posterior",
        ) from None
    components = min(COMPONENTS, len(codes))
    model = GaussianMixture(components, reg_covar=1e-4, max_iter=200, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a mixture for pictures is good enough
        model.fit(codes.astype(np.float64))
    return Fitted(model.weights_, model.means_, np.linalg.cholesky(model.covariances_))
