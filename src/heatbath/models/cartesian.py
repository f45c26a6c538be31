"""Generators over the Cartesian coordinates of a molecule: a density over a vector of scaled coordinates, and the way there.

What transformer flows and binned autoregressive models share: one length scale, an order of the atoms, and the law of the centre
that training data are given (``rigid.RigidAugmentation``).
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key, Scalar

from heatbath.errors import InvalidArgumentError
from heatbath.models.base import Distribution
from heatbath.models.bijections import Affine, Chain, Permutation
from heatbath.models.rigid import RigidAugmentation


class CartesianGenerator(Distribution):
    """A density of x (atom, 3) in nm, normalised on all of R^(3N): x = scale * (y with its atoms put in place), y ~ ``vector``.

    ``vector`` is over (3N,): three numbers per atom, atom by atom in the model's own order. Nothing is subtracted from x: the
    density of the centre is part of the model. Train it on configurations prepared by ``augmentation``.
    """

    vector: Distribution
    atom_order: Permutation
    scale: Affine

    def sample(self, key: Key[Array, ""]) -> Float[Array, "atom 3"]:
        return self.sample_and_log_prob(key)[0]

    def log_prob(self, x: Float[Array, "atom 3"]) -> Scalar:
        y, log_det = self._way.inverse(x)
        return self.vector.log_prob(y.reshape(-1)) + log_det

    def log_probs(self, xs: Float[Array, "batch atom 3"]) -> Float[Array, " batch"]:
        ys, log_dets = jax.vmap(self._way.inverse)(xs)
        return self.vector.log_probs(ys.reshape(xs.shape[0], -1)) + log_dets

    def sample_and_log_prob(self, key: Key[Array, ""]) -> tuple[Float[Array, "atom 3"], Scalar]:
        y, log_prob = self.vector.sample_and_log_prob(key)
        x, log_det = self._way.forward(y.reshape(-1, 3))
        return x, log_prob - log_det

    @property
    def _way(self) -> Chain:
        return Chain((self.atom_order, self.scale))

    @property
    def n_atoms(self) -> int:
        """How many atoms a configuration has."""
        return self.atom_order.order.shape[0]

    @property
    def centre_scale(self) -> Scalar:
        """Standard deviation of each component of the centre, in nm: scale / sqrt(N), that of a mean of N normals."""
        return self.scale.scale / np.sqrt(self.n_atoms)

    @property
    def augmentation(self) -> RigidAugmentation:
        """What prepares configurations for training: a uniform rotation, and the centre's normal law."""
        return RigidAugmentation(self.centre_scale)


def cartesian_generator(vector: Distribution, *, n_atoms: int, data=None, order=None) -> CartesianGenerator:
    """``vector`` (over 3 n_atoms numbers of scale one) as a generator of molecules.

    data:  configurations (draw, atom, 3), or one structure (atom, 3), in nm; the scale is the standard deviation of their centred
           coordinates. Without it the scale is 1 nm, to be restored from a file.
    order: the atoms in the order in which the model takes them (default: as they are).

    Raises ``InvalidArgumentError`` when order or data do not fit.
    """
    scale = jnp.asarray(coordinate_scale(data, n_atoms), dtype=float)
    return CartesianGenerator(vector, placing(n_atoms, order), Affine(jnp.zeros_like(scale), scale))


def coordinate_scale(data, n_atoms: int) -> float:
    """Standard deviation of all centred coordinates of ``data`` (*draw, atom, 3); 1 without data."""
    if data is None:
        return 1.0
    data = checked_configurations(data, n_atoms)
    return float(np.std(data - data.mean(axis=-2, keepdims=True)))


def checked_configurations(data, n_atoms: int) -> Float[np.ndarray, "*draw atom 3"]:
    """``data`` in float64. Raises ``InvalidArgumentError`` when it is not finite or has another number of atoms."""
    data = np.asarray(data, np.float64)
    if data.shape[-2:] != (n_atoms, 3) or not np.isfinite(data).all():
        raise InvalidArgumentError(
            f"data must be finite with shape (draw, {n_atoms}, 3) or ({n_atoms}, 3); found {data.shape}"
        )
    return data


def placing(n_atoms: int, order: Sequence[int] | Int[Array, " atom"] | None) -> Permutation:
    """What puts atoms in the model's order into their places. Raises ``InvalidArgumentError`` for what is no permutation."""
    chosen = np.arange(n_atoms) if order is None else np.asarray(order)
    if n_atoms < 1 or sorted(chosen.tolist()) != list(range(n_atoms)):
        raise InvalidArgumentError(f"order must name each atom 0..{n_atoms - 1} once; found {chosen.tolist()}")
    return Permutation(jnp.argsort(jnp.asarray(chosen)).astype(jnp.int32))
