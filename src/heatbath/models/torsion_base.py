"""A steerable base with torsions: tabulated energies of angles, and a volume of the reals that depends on them.

A normal prior has the thermodynamics of harmonic oscillators, at every temperature. Torsions of molecules have several wells, of
different energies and different stiffness around them. A base may be any exp(-E / tau) whose Z(tau) is known; this one is

    E(v) = sum_g e_g(angles of g) + exp(-2 l / m) |a|^2 / 2 + |b|^2 / 2,    l = sum_g l_g(angles of g),

with v = (a, b, angles), a the first m reals. Groups g are single angles and pairs of them. Integrating the reals out leaves a
factor exp(l) for the angles: e is an energy and l an entropy, and Z is a product of sums over cells,

    Z(tau) = (2 pi tau)^(n/2) prod_g sum_cells area exp(-e_g / tau + l_g).

e and l are trigonometric polynomials evaluated at cell centres, so that all of this is exact.
"""

import dataclasses
import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import scipy.optimize
from jaxtyping import Array, Float, Key, Scalar

from heatbath.errors import InvalidArgumentError
from heatbath.models.steerable_flow import SteerableBase, Thermostat

#: Cells along a single angle and along each angle of a pair (2 and 4 degrees).
SINGLE_CELLS, PAIR_CELLS = 180, 90


class TorsionBase(SteerableBase):
    """exp(-E(v) / tau) / Z(tau) with tabulated torsions; E and Z stand at the top of this file.

    ``linear`` reals, of which the first ``breathing`` (a) have a volume that depends on the angles; then the angles, in
    [-pi, pi): ``singles`` of them on their own, then pairs. Polynomials have orders up to (terms - 1) / 2; coefficients are
    those of e and of l.

    Densities are constant in a cell. The gradient of ``log_prob`` by the angles is that of the smooth polynomial, which is
    what a flow on top of this base has to learn from.
    """

    thermostat: Thermostat  # pyright: ignore
    single: Float[Array, "2 singles terms"]
    pair: Float[Array, "2 pairs pair_terms pair_terms"]
    linear: int = eqx.field(static=True)
    breathing: int = eqx.field(static=True)

    @staticmethod
    def create(
        thermostat: Thermostat,
        linear: int,
        *,
        breathing: int,
        singles: int = 0,
        pairs: int = 0,
        orders: int = 6,
        pair_orders: int = 6,
        dtype=jnp.float32,
    ) -> "TorsionBase":
        """Flat energies: uniform angles. Raises ``InvalidArgumentError`` for impossible sizes."""
        if not 0 < breathing <= linear or min(singles, pairs) < 0 or min(orders, pair_orders) < 1:
            raise InvalidArgumentError(
                f"expected 0 < breathing <= linear and no negative size; found breathing {breathing}, linear {linear}, "
                f"{singles} singles, {pairs} pairs, orders {orders} and {pair_orders}"
            )
        terms, pair_terms = 2 * orders + 1, 2 * pair_orders + 1
        single = jnp.zeros((2, singles, terms), dtype)
        pair = jnp.zeros((2, pairs, pair_terms, pair_terms), dtype)
        return TorsionBase(thermostat=thermostat, single=single, pair=pair, linear=linear, breathing=breathing)

    def fitted(self, angles: Float[np.ndarray, "draws angles"]) -> "TorsionBase":
        """The same base with the energies that draws at tau = 1 suggest: e = -log of their histogram, l = 0.

        Each histogram is matched by maximum likelihood, which is a convex problem in the coefficients.
        """
        singles, pairs = self.single.shape[1], self.pair.shape[1]
        single, pair = np.zeros(self.single.shape[1:]), np.zeros(self.pair.shape[1:])
        for group in range(singles):
            histogram, _ = np.histogram(angles[:, group], SINGLE_CELLS, (-np.pi, np.pi))
            basis = np.asarray(_basis(_centres(SINGLE_CELLS), single.shape[-1]), dtype=np.float64)
            single[group] = _most_likely(histogram[:, None], basis, np.ones((1, 1)))[:, 0]
        for group in range(pairs):
            first, second = angles[:, singles + 2 * group], angles[:, singles + 2 * group + 1]
            histogram, *_ = np.histogram2d(first, second, PAIR_CELLS, [(-np.pi, np.pi)] * 2)
            basis = np.asarray(_basis(_centres(PAIR_CELLS), pair.shape[-1]), dtype=np.float64)
            pair[group] = _most_likely(histogram, basis, basis)
        zero = np.zeros_like
        return dataclasses.replace(
            self,
            single=jnp.asarray(np.stack([single, zero(single)]), self.single.dtype),
            pair=jnp.asarray(np.stack([pair, zero(pair)]), self.pair.dtype),
        )

    def sample(self, key: Key[Array, ""]) -> Float[Array, " d"]:
        key_reals, key_single, key_pair, key_place = jax.random.split(key, 4)
        singles, pairs = self.single.shape[1], self.pair.shape[1]
        tables = self._single_table(), self._pair_table()
        single_cells = _draw_cells(key_single, -tables[0][0] / self.tau + tables[0][1])
        pair_cells = _draw_cells(key_pair, (-tables[1][0] / self.tau + tables[1][1]).reshape(pairs, PAIR_CELLS**2))
        cells = jnp.concatenate(
            [single_cells, jnp.stack([pair_cells // PAIR_CELLS, pair_cells % PAIR_CELLS], 1).reshape(-1)]
        )
        widths = self._widths()
        angles = -jnp.pi + widths * (cells + jax.random.uniform(key_place, (singles + 2 * pairs,)))
        reals = jnp.sqrt(self.tau) * jax.random.normal(key_reals, (self.linear,))
        _, entropy = self._energy_and_entropy(angles)
        factor = jnp.exp(entropy / self.breathing)
        return jnp.concatenate([reals[: self.breathing] * factor, reals[self.breathing :], angles])

    def log_prob(self, v: Float[Array, " d"]) -> Scalar:
        wide = v.astype(jnp.result_type(float))
        breathing, rest, angles = jnp.split(wide, [self.breathing, self.linear])
        energy, entropy = self._energy_and_entropy(angles)
        square = jnp.exp(-2 * entropy / self.breathing) * jnp.sum(breathing**2) + jnp.sum(rest**2)
        return -(energy + 0.5 * square) / self.tau - self.log_z()

    def log_z(self) -> Scalar:
        """log Z(tau)."""
        single, pair = self._single_table(), self._pair_table()
        sums = jax.nn.logsumexp(-single[0] / self.tau + single[1], axis=-1).sum()
        sums = sums + jax.nn.logsumexp(-pair[0] / self.tau + pair[1], axis=(-2, -1)).sum()
        return 0.5 * self.linear * jnp.log(2 * jnp.pi * self.tau) + sums + jnp.sum(jnp.log(self._widths()))

    def _widths(self):
        """Width of the cells of every angle."""
        counts = (SINGLE_CELLS,) * self.single.shape[1] + (PAIR_CELLS,) * (2 * self.pair.shape[1])
        return 2 * math.pi / jnp.asarray(counts, dtype=float)

    def _single_table(self) -> Array:
        basis = _basis(_centres(SINGLE_CELLS), self.single.shape[-1])
        return jnp.einsum("gst,ct->gsc", self.single.astype(float), basis)

    def _pair_table(self) -> Array:
        basis = _basis(_centres(PAIR_CELLS), self.pair.shape[-1])
        return jnp.einsum("gpst,cs,dt->gpcd", self.pair.astype(float), basis, basis)

    def _energy_and_entropy(self, angles) -> tuple[Array, Array]:
        widths = self._widths().astype(angles.dtype)
        centres = -jnp.pi + widths * (jnp.floor((angles + jnp.pi) / widths) + 0.5)
        slope = _polynomials(*jax.lax.stop_gradient((self.single, self.pair)), angles)
        # The value of the cell, and the slope of the polynomial by the angles.
        value = _polynomials(self.single, self.pair, centres) + slope - jax.lax.stop_gradient(slope)
        return value[0], value[1]


def _polynomials(single, pair, angles) -> Float[Array, "2"]:
    """Sums over groups of the two polynomials (e, l) at ``angles``."""
    alone, together = angles[: single.shape[1]], angles[single.shape[1] :].reshape(-1, 2)
    of_singles = jnp.einsum("gst,st->g", single.astype(angles.dtype), _basis(alone, single.shape[-1]))
    basis = _basis(together, pair.shape[-1])
    return of_singles + jnp.einsum("gpst,ps,pt->g", pair.astype(angles.dtype), basis[:, 0], basis[:, 1])


def _basis(angles: Float[Array, "*shape"], terms: int) -> Float[Array, "*shape terms"]:
    """1, cos(k a), sin(k a) for k = 1 .. (terms - 1) / 2."""
    multiples = angles[..., None] * jnp.arange(1, (terms + 1) // 2)
    return jnp.concatenate([jnp.ones_like(angles)[..., None], jnp.cos(multiples), jnp.sin(multiples)], axis=-1)


def _most_likely(histogram: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """c minimising -sum_ij h_ij log p_ij + 1e-4 |c|^2 with p = softmax(-rows c columns^T) and h the normalised histogram."""
    share = histogram / histogram.sum()
    shape = (rows.shape[1], columns.shape[1])
    wanted = rows.T @ share @ columns

    def loss(flat):
        c = flat.reshape(shape)
        logits = -rows @ c @ columns.T
        masses = np.exp(logits - logits.max())
        value = np.sum(wanted * c) + logits.max() + np.log(masses.sum()) + 1e-4 * flat @ flat
        gradient = wanted - rows.T @ (masses / masses.sum()) @ columns + 2e-4 * c
        return value, gradient.reshape(-1)

    start, options = np.zeros(shape[0] * shape[1]), {"maxiter": 500}
    return scipy.optimize.minimize(loss, start, jac=True, method="L-BFGS-B", options=options).x.reshape(shape)


def _centres(cells: int) -> Float[Array, " cells"]:
    return -math.pi + 2 * math.pi / cells * (jnp.arange(cells, dtype=float) + 0.5)


def _draw_cells(key: Array, logits: Float[Array, "group cell"]) -> Array:
    """One cell per group with probability proportional to exp(logits); the cumulative sums are shared by all draws."""
    masses = jnp.exp(logits - jnp.max(logits, axis=-1, keepdims=True))
    cumulative = jnp.cumsum(masses, axis=-1)
    goals = jax.random.uniform(key, (logits.shape[0],)) * cumulative[:, -1]
    found = jax.vmap(lambda sums, goal: jnp.searchsorted(sums, goal, side="right"))(cumulative, goals)
    return jnp.minimum(found, logits.shape[-1] - 1)
