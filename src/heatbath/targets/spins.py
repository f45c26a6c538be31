"""Spins with any pair couplings: Ising models on graphs and spin glasses, exact by enumeration while they are small."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from heatbath.errors import InvalidArgumentError, UnknownTruthError
from heatbath.spaces import Discrete
from heatbath.targets.base import Observable, Target

#: Largest number of spins whose configurations are enumerated, and that are drawn from by their list.
ENUMERATED_SPINS, LISTED_SPINS = 20, 14


class SpinModel(Target):
    """U(x) = -sum_{i<j} J_ij s_i s_j - sum_i h_i s_i with s = 2 x - 1 and x in {0, 1}.

    couplings (n, n) symmetric with a zero diagonal, fields (n,). Configurations are numbered by their digits, the last spin
    fastest. Truths: ``log_z`` and ``mean`` up to 20 spins, ``sample`` up to 14.
    """

    space: Discrete
    couplings: Float[Array, "n n"]
    fields: Float[Array, " n"]

    def __init__(self, couplings, fields):
        j, h = np.asarray(couplings, dtype=np.float64), np.asarray(fields, dtype=np.float64)
        if h.ndim != 1 or j.shape != (len(h), len(h)) or not np.array_equal(j, j.T) or np.diag(j).any():
            raise InvalidArgumentError(
                f"couplings are a symmetric (n, n) with zero diagonal, fields (n,); found shapes {j.shape} and {h.shape}"
            )
        if not (np.isfinite(j).all() and np.isfinite(h).all()):
            raise InvalidArgumentError("couplings and fields must be finite")
        self.space = Discrete((len(h),), 2)
        self.couplings, self.fields = jnp.asarray(j, dtype=float), jnp.asarray(h, dtype=float)

    @property
    def spins(self) -> int:
        """Number of spins."""
        return self.space.shape[0]

    @property
    def configurations(self) -> int:
        """Number of configurations."""
        return 2**self.spins

    def energy(self, x):
        s = (2 * x - 1).astype(self.fields.dtype)
        return -0.5 * s @ self.couplings @ s - self.fields @ s

    def conditional_energies(self, x, site):
        """(2,) the energy with spin ``site`` down and up, up to one constant: for Gibbs moves."""
        s = (2 * x - 1).astype(self.fields.dtype)
        local = self.fields[site] + self.couplings[site] @ s
        return jnp.stack([local, -local])

    def observables(self):
        return {"magnetisation": Observable(self.magnetisation, "magnetisation", range=(-1.0, 1.0))}

    def basins(self):
        return {"below": lambda x: self.magnetisation(x) < 0, "above": lambda x: self.magnetisation(x) >= 0}

    def magnetisation(self, x):
        """Mean spin."""
        return jnp.mean((2 * x - 1).astype(self.fields.dtype))

    # Truths -----------------------------------------------------------------------------------------------------------
    def knows(self, truth):
        if truth in ("log_z", "mean"):
            return self.spins <= ENUMERATED_SPINS
        return self.spins <= LISTED_SPINS if truth == "sample" else super().knows(truth)

    def log_z(self, beta):
        exponents = -float(beta) * self._energies()
        top = exponents.max()
        return float(top + np.log(np.exp(exponents - top).sum()))

    def mean(self, observable, beta):
        exponents = -float(beta) * self._energies()
        weights = np.exp(exponents - exponents.max())
        with jax.enable_x64(True):  # noqa: FBT003
            numbers = jnp.arange(2**self.spins)
            values = jax.lax.map(lambda n: observable(self.configuration(n)), numbers, batch_size=2**14)
        return float(np.sum(weights * np.asarray(values, dtype=np.float64)) / weights.sum())

    def sample(self, key, beta):
        if self.spins > LISTED_SPINS:
            raise UnknownTruthError(f"exact draws are made for at most {LISTED_SPINS} spins; found {self.spins}")
        energies = jax.vmap(lambda n: self.energy(self.configuration(n)))(jnp.arange(2**self.spins))
        return self.configuration(jax.random.categorical(key, -beta * energies))

    def configuration(self, number):
        """The configuration with a number in 0 .. 2^n - 1."""
        return (number >> np.arange(self.spins - 1, -1, -1)) & 1

    def _energies(self) -> np.ndarray:
        if self.spins > ENUMERATED_SPINS:
            raise UnknownTruthError(f"2^{self.spins} configurations are too many to enumerate; ask target.knows first")
        s = 2.0 * ((np.arange(2**self.spins)[:, None] >> np.arange(self.spins - 1, -1, -1)) & 1) - 1.0
        j, h = np.asarray(self.couplings, dtype=np.float64), np.asarray(self.fields, dtype=np.float64)
        return -0.5 * np.einsum("ni,ni->n", s @ j, s) - s @ h


def spin_glass(spins: int = 12, scale: float = 0.3, density: float = 0.5, seed: int = 0) -> SpinModel:
    """A random model: every field and coupling is zero with probability 1 - ``density``, else Gaussian of width ``scale``."""
    if spins < 2 or not 0 <= density <= 1:
        raise InvalidArgumentError(
            f"a spin glass has at least 2 spins and a density in [0, 1]; found {spins}, {density}"
        )
    rng = np.random.default_rng(seed)
    draw = rng.normal(size=(spins, spins)) * scale * (rng.random((spins, spins)) < density)
    upper = np.triu(draw, 1)
    return SpinModel(upper + upper.T, np.diag(draw))
