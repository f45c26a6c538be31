"""Spins on periodic lattices, with exact answers by enumeration, transfer matrices and Kaufman's formula.

Sites hold integers 0..k-1. Every site is bound to its next neighbour along each axis, around the edge; on an axis of length
two that is the same neighbour twice, which counts as two bonds, and an axis of length one has no bonds.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from heatbath.errors import InvalidArgumentError, UnknownTruthError
from heatbath.spaces import Discrete
from heatbath.targets.base import Observable, Target
from heatbath.targets.quadrature import draw_cell

#: Largest number of configurations that are enumerated, and that are drawn from by their list.
ENUMERATION_LIMIT, SAMPLING_LIMIT = 2**20, 2**16
#: Largest size of a transfer matrix.
TRANSFER_LIMIT = 1024


class PairLattice(Target):
    """U(x) = sum over bonds of pair[x_i, x_j] + sum over sites of site[x_i], on a periodic lattice of any dimension.

    pair (k, k) symmetric, site (k,). Truths where the lattice is small enough: ``log_z`` (transfer matrix up to 1024 states per
    row, else enumeration up to 2^20 configurations), ``mean`` (enumeration), ``sample`` (enumeration up to 2^16).
    """

    space: Discrete
    pair: Float[Array, "k k"]
    site: Float[Array, " k"]
    labels: tuple[float, ...]

    def __init__(self, shape, pair, site, labels):
        shape = tuple(int(length) for length in shape)
        pair, site = np.asarray(pair, dtype=np.float64), np.asarray(site, dtype=np.float64)
        if not shape or min(shape) < 1:
            raise InvalidArgumentError(f"a lattice needs positive lengths; found {shape}")
        if pair.shape != (len(site), len(site)) or not np.array_equal(pair, pair.T) or len(labels) != len(site):
            raise InvalidArgumentError(
                f"pair must be a symmetric (k, k), site and labels of length k; found {pair.shape}, {site.shape}"
            )
        self.space = Discrete(shape, len(site))
        self.pair = jnp.asarray(pair, dtype=float)
        self.site = jnp.asarray(site, dtype=float)
        self.labels = tuple(float(label) for label in labels)

    @property
    def sites(self) -> int:
        """Number of sites."""
        return math.prod(self.space.shape)

    def energy(self, x):
        total = jnp.sum(self.site[x])
        for axis, length in enumerate(self.space.shape):
            if length > 1:
                total = total + jnp.sum(self.pair[x, jnp.roll(x, -1, axis=axis)])
        return total

    def conditional_energies(self, x, site):
        """(k,) the energy with each value at ``site`` (its number in row order), up to one constant: for Gibbs moves."""
        values = self.site
        place = jnp.unravel_index(site, self.space.shape)
        for axis, length in enumerate(self.space.shape):
            if length > 1:
                for step in (1, -1):
                    moved = (place[axis] + step) % length
                    neighbour = x[(*place[:axis], moved, *place[axis + 1 :])]
                    values = values + self.pair[:, neighbour]
        return values

    def magnetisation(self, x):
        """Mean label of the sites."""
        return jnp.mean(jnp.asarray(self.labels, dtype=self.site.dtype)[x])

    def observables(self):
        low, high = min(self.labels), max(self.labels)
        return {
            "magnetisation": Observable(self.magnetisation, "magnetisation", range=(low, high)),
            "energy": Observable(self._energy_per_site, "energy per site"),
        }

    def basins(self):
        middle = 0.5 * (min(self.labels) + max(self.labels))
        return {
            "below": lambda x: self.magnetisation(x) < middle,
            "above": lambda x: self.magnetisation(x) >= middle,
        }

    def _energy_per_site(self, x):
        return self.energy(x) / self.sites

    # Truths -----------------------------------------------------------------------------------------------------------
    @property
    def configurations(self) -> int:
        """Number of configurations."""
        return self.space.k**self.sites

    def knows(self, truth):
        if truth == "log_z":
            return self._transfer_states() <= TRANSFER_LIMIT or self.configurations <= ENUMERATION_LIMIT
        if truth == "mean":
            return self.configurations <= ENUMERATION_LIMIT
        return self.configurations <= SAMPLING_LIMIT if truth == "sample" else super().knows(truth)

    def log_z(self, beta):
        """By transfer matrix for chains and narrow strips, else by enumeration."""
        if self._transfer_states() <= TRANSFER_LIMIT:
            return self._transfer_log_z(float(beta))
        self._require(ENUMERATION_LIMIT, "log_z")
        exponents = -float(beta) * self._enumerated(self.energy)
        top = exponents.max()
        return float(top + np.log(np.exp(exponents - top).sum()))

    def mean(self, observable, beta):
        self._require(ENUMERATION_LIMIT, "mean")
        exponents = -float(beta) * self._enumerated(self.energy)
        weights = np.exp(exponents - exponents.max())
        return float(np.sum(weights * self._enumerated(observable)) / weights.sum())

    def sample(self, key, beta):
        self._require(SAMPLING_LIMIT, "sample")
        numbers = jnp.arange(self.configurations)
        energies = jax.lax.map(lambda n: self.energy(self.configuration(n)), numbers, batch_size=4096)
        rows = self.space.k ** (self.sites // 2)
        mass = jnp.exp(-beta * (energies - energies.min())).reshape((rows, -1))
        row, column = draw_cell(key, jnp.cumsum(mass.sum(axis=1)), jnp.cumsum(mass, axis=1))
        return self.configuration(row * mass.shape[1] + column)

    def configuration(self, number):
        """The configuration with a number in 0 .. k^sites - 1: its digits in base k, last site fastest."""
        powers = np.array([self.space.k**i for i in range(self.sites - 1, -1, -1)])
        return ((number // powers) % self.space.k).reshape(self.space.shape)

    def _require(self, limit: int, truth: str) -> None:
        if self.configurations > limit:
            raise UnknownTruthError(
                f"{self.space.k}^{self.sites} configurations are too many to enumerate; ask target.knows({truth!r}) first"
            )

    def _enumerated(self, function) -> np.ndarray:
        with jax.enable_x64(True):  # noqa: FBT003
            numbers = jnp.arange(self.configurations)
            values = jax.jit(lambda ns: jax.lax.map(lambda n: function(self.configuration(n)), ns, batch_size=2**14))(
                numbers
            )
            return np.asarray(values, dtype=np.float64)

    def _transfer_states(self) -> int:
        """Number of states of one row: all but the longest axis."""
        if len(self.space.shape) > 2:
            return TRANSFER_LIMIT + 1
        return self.space.k ** (self.sites // max(self.space.shape))

    def _transfer_log_z(self, beta: float) -> float:
        """log Tr T^L, T between neighbouring rows with half of each row's own energy on either side."""
        length = max(self.space.shape)
        width = self.sites // length
        k = self.space.k
        rows = (np.arange(k**width)[:, None] // k ** np.arange(width)[None, :]) % k
        pair, site = np.asarray(self.pair, dtype=np.float64), np.asarray(self.site, dtype=np.float64)
        own = site[rows].sum(axis=1)
        if width > 1:
            own = own + pair[rows, np.roll(rows, -1, axis=1)].sum(axis=1)
        if length == 1:
            return _log_sum_exp(-beta * own)
        between = pair[rows[:, None, :], rows[None, :, :]].sum(axis=2)
        exponents = -beta * (0.5 * (own[:, None] + own[None, :]) + between)
        top = exponents.max()
        eigenvalues = np.linalg.eigvalsh(np.exp(exponents - top))
        # T is symmetric but may have negative eigenvalues; the trace of its power is positive all the same.
        largest = np.abs(eigenvalues).max()
        return float(length * (top + math.log(largest)) + math.log(np.sum((eigenvalues / largest) ** length)))


def ising(shape, coupling: float = 1.0, field: float = 0.0) -> PairLattice:
    """U = -J sum over bonds of s_i s_j - h sum_i s_i with spins s = 2 x - 1 (x in {0, 1}): J ``coupling``, h ``field``.

    The magnetisation is the mean spin.
    """
    spins = np.array([-1.0, 1.0])
    return PairLattice(shape, -coupling * np.outer(spins, spins), -field * spins, spins)


def potts(shape, states: int = 3, coupling: float = 1.0, field: float = 0.0) -> PairLattice:
    """U = -J sum over bonds of [x_i = x_j] - h sum_i [x_i = 0] with x in 0 .. states - 1.

    The magnetisation is the share of sites in state 0.
    """
    if states < 2:
        raise InvalidArgumentError(f"a Potts model needs at least two states; found {states}")
    first = np.eye(states)[0]
    return PairLattice(shape, -coupling * np.eye(states), -field * first, first)


def ising_chain(length: int = 16, coupling: float = 1.0, field: float = 0.0) -> PairLattice:
    """A periodic chain."""
    return ising((length,), coupling, field)


def ising_square(width: int = 8, length: int = 8, coupling: float = 1.0, field: float = 0.0) -> PairLattice:
    """A periodic rectangle; at h = 0 and J = 1 the infinite lattice orders below kT = 2 / log(1 + sqrt 2) = 2.269."""
    return ising((width, length), coupling, field)


def potts_square(
    width: int = 4, length: int = 8, states: int = 3, coupling: float = 1.0, field: float = 0.0
) -> PairLattice:
    """A periodic rectangle; the infinite lattice orders below kT = 1 / log(1 + sqrt q) for q states at J = 1."""
    return potts((width, length), states, coupling, field)


def kaufman_log_z(width: int, length: int, beta: float, coupling: float = 1.0) -> float:
    """log Z of the Ising model without field on a periodic rectangle of any size (Kaufman 1949, Phys. Rev. 76, 1232).

    With K = beta J, cosh g_r = cosh(2K)^2 / sinh(2K) - cos(pi r / length) for r = 1 .. 2 length - 1 and
    g_0 = 2K + log tanh K: Z = (2 sinh 2K)^(N/2) / 2 times the sum of prod 2 cosh(width g_r / 2) and prod 2 sinh(width g_r / 2)
    over odd and over even r. Both lengths must be at least 3 for K > 0 (then every bond is a single one).
    """
    if min(width, length) < 3:
        raise InvalidArgumentError(f"Kaufman's formula needs lengths of at least 3; found {width} and {length}")
    k = float(beta) * float(coupling)
    if k <= 0:
        raise InvalidArgumentError(f"Kaufman's formula needs beta J > 0; found {k}")
    r = np.arange(2 * length)
    cosh_gamma = np.cosh(2 * k) ** 2 / np.sinh(2 * k) - np.cos(np.pi * r[1:] / length)
    # g_0 changes sign at the critical point, which no arccosh shows.
    gamma = np.concatenate([[2 * k + math.log(math.tanh(k))], np.arccosh(cosh_gamma)])
    half = 0.5 * width * gamma
    size = np.abs(half)
    log_cosh, log_sinh = size + np.log1p(np.exp(-2 * size)), size + np.log(-np.expm1(-2 * size) + (size == 0))
    sign = np.where(half == 0, 0.0, np.sign(half))
    odd, even = r % 2 == 1, r % 2 == 0
    terms = [(log_cosh[part].sum(), 1.0) for part in (odd, even)]
    terms += [(log_sinh[part].sum(), float(np.prod(sign[part]))) for part in (odd, even)]
    top = max(value for value, _ in terms)
    total = sum(factor * math.exp(value - top) for value, factor in terms)
    return 0.5 * width * length * math.log(2 * math.sinh(2 * k)) - math.log(2) + top + math.log(total)


def _log_sum_exp(values: np.ndarray) -> float:
    top = values.max()
    return float(top + np.log(np.exp(values - top).sum()))
