"""Cartesian coordinates in the molecule's own frame: orientation and centre are exact, only the shape is left to a model.

Three atoms a, b, c span the frame: a is its origin, b lies on the first axis at distance r, c in the plane of the first two axes
at (c1, c2) with c2 > 0. With the centre C and the orientation Omega, d^(3N)x = dC dOmega r^2 dr c2 dc1 dc2 prod d^3y over the
other atoms' positions y in the frame (a rotation and a shift by a function of the shape keep volumes); dOmega integrates to
8 pi^2. A model in this frame need not learn what rotations are.
"""

import math
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, Scalar

from heatbath.errors import InvalidArgumentError
from heatbath.models.base import Distribution
from heatbath.models.bijections import Affine, Bijection, Permutation
from heatbath.models.cartesian import checked_configurations, placing
from heatbath.models.rigid import RigidAugmentation, random_rotation
from heatbath.models.z_matrix import ZMatrix

LOG_ORIENTATIONS = math.log(8 * math.pi**2)


class FrameCoordinates(Bijection):
    """Shapes: x (n, 3), up to rigid motion, from (log r, c1, log c2, y_4, ..., y_n), 3n - 6 numbers (nm, logs of nm).

    ``forward`` gives x with the first atom at the origin, the second on the first axis and the third in the plane; ``inverse``
    takes any x. log det is that of the shape: the volume of shapes is r^2 dr c2 dc1 dc2 prod d^3y.
    """

    frozen: ClassVar[bool] = True

    def forward(self, z: Float[Array, " shape"]) -> tuple[Float[Array, "n 3"], Scalar]:
        zero = jnp.zeros((), z.dtype)
        frame = jnp.stack(
            [
                jnp.zeros(3, z.dtype),
                jnp.stack([jnp.exp(z[0]), zero, zero]),
                jnp.stack([z[1], jnp.exp(z[2]), zero]),
            ]
        )
        return jnp.concatenate([frame, z[3:].reshape(-1, 3)]), 3 * z[0] + 2 * z[2]

    def inverse(self, x: Float[Array, "n 3"]) -> tuple[Float[Array, " shape"], Scalar]:
        to_b, to_c = x[1] - x[0], x[2] - x[0]
        r = jnp.linalg.norm(to_b)
        first = to_b / r
        along = jnp.dot(to_c, first)
        across = to_c - along * first
        height = jnp.linalg.norm(across)
        second = across / height
        axes = jnp.stack([first, second, jnp.cross(first, second)], axis=1)
        y = (x[3:] - x[0]) @ axes
        log_r, log_height = jnp.log(r), jnp.log(height)
        shape = jnp.concatenate([jnp.stack([log_r, along, log_height]), y.reshape(-1)])
        return shape, -(3 * log_r + 2 * log_height)


class FramedGenerator(Distribution):
    """A density of x (atom, 3) in nm, normalised on all of R^(3N): centre ~ N(0, centre_scale^2 I), any orientation alike.

    The shape is drawn from ``vector`` over 3N - 6 numbers of mean zero and scale one, brought to ``FrameCoordinates`` by
    ``standard``; ``atom_order`` puts the atoms in place (the first three of the model's order span the frame).
    """

    vector: Distribution
    standard: Affine
    atom_order: Permutation
    pose: RigidAugmentation

    def sample(self, key: Key[Array, ""]) -> Float[Array, "atom 3"]:
        return self.sample_and_log_prob(key)[0]

    def log_prob(self, x: Float[Array, "atom 3"]) -> Scalar:
        standard, rest = self._shape(x)
        return self.vector.log_prob(standard) + rest

    def log_probs(self, xs: Float[Array, "batch atom 3"]) -> Float[Array, " batch"]:
        standard, rest = jax.vmap(self._shape)(xs)
        return self.vector.log_probs(standard) + rest

    def sample_and_log_prob(self, key: Key[Array, ""]) -> tuple[Float[Array, "atom 3"], Scalar]:
        key_shape, key_rotation, key_centre = jax.random.split(key, 3)
        standard, log_prob = self.vector.sample_and_log_prob(key_shape)
        shape, log_det = self.standard.forward(standard)
        x, log_det_shape = FrameCoordinates().forward(shape)
        x, _ = self.atom_order.forward(x)
        centre = self.centre_scale.astype(x.dtype) * jax.random.normal(key_centre, (3,), x.dtype)
        x = (x - jnp.mean(x, axis=0)) @ random_rotation(key_rotation, x.dtype).T + centre
        return x, log_prob - log_det - log_det_shape + self._log_pose(centre)

    def _shape(self, x):
        """Standardised shape of x, and everything of log q(x) but that of the model."""
        slots, _ = self.atom_order.inverse(x)
        shape, log_det_shape = FrameCoordinates().inverse(slots)
        standard, log_det = self.standard.inverse(shape)
        return standard, log_det_shape + log_det + self._log_pose(jnp.mean(x, axis=0))

    def _log_pose(self, centre):
        scaled = centre / self.centre_scale
        log_normal = -0.5 * jnp.sum(scaled * scaled) - 3 * jnp.log(self.centre_scale * math.sqrt(2 * math.pi))
        return (log_normal - LOG_ORIENTATIONS).astype(float)

    @property
    def n_atoms(self) -> int:
        """How many atoms a configuration has."""
        return self.atom_order.order.shape[0]

    @property
    def centre_scale(self) -> Scalar:
        """Standard deviation of each component of the centre, in nm."""
        return self.pose.centre_scale

    @property
    def augmentation(self) -> RigidAugmentation:
        """Gives configurations a centre and an orientation; training does not need it, likelihoods of data do."""
        return self.pose


def framed_generator(
    vector: Distribution, *, n_atoms: int, data=None, order=None, centre_scale: float = 0.1
) -> FramedGenerator:
    """``vector`` (over 3 n_atoms - 6 numbers) as a generator of molecules in the frame of the first three atoms of ``order``.

    ``data``: configurations (draw, atom, 3) in nm, for mean and standard deviation of every coordinate; one structure gives the
    means and 0.1 for the deviations; without data both wait to be restored from a file. The three atoms must not lie on a
    line. Raises ``InvalidArgumentError`` when order or data do not fit.
    """
    if n_atoms < 4:
        raise InvalidArgumentError(f"a frame of three atoms needs a fourth to place; found {n_atoms} atoms")
    atom_order = placing(n_atoms, order)
    shift, scale = np.zeros(3 * n_atoms - 6), np.ones(3 * n_atoms - 6)
    if data is not None:
        configurations = jnp.asarray(checked_configurations(data, n_atoms).reshape(-1, n_atoms, 3), dtype=float)
        shapes = np.asarray(jax.vmap(lambda x: FrameCoordinates().inverse(atom_order.inverse(x)[0])[0])(configurations))
        shift, scale = shapes.mean(axis=0), np.maximum(shapes.std(axis=0), 1e-4) if len(shapes) > 1 else 0.1 * scale
    if not np.isfinite(shift).all():
        raise InvalidArgumentError(
            f"the first three atoms of the order, {np.asarray(jnp.argsort(atom_order.order))[:3].tolist()}, lie on a line; "
            "choose three that span a plane"
        )
    standard = Affine(jnp.asarray(shift, dtype=float), jnp.asarray(scale, dtype=float))
    return FramedGenerator(vector, standard, atom_order, RigidAugmentation(jnp.asarray(centre_scale, dtype=float)))


def depth_first_order(bonds, masses) -> tuple[int, ...]:
    """All atoms, each near those it is bonded to: a frame from the middle of the molecule, then branch after branch.

    The frame is that of ``ZMatrix`` (for a peptide an alpha carbon, its nitrogen and its carbonyl carbon). Small branches come
    before large ones, so that the hydrogens of an atom follow it at once. For autoregressive models this order is easier than
    one with all hydrogens last. ``bonds``: pairs of atoms of a connected molecule; raises ``StructureError`` when it is not.
    """
    masses = np.asarray(masses, dtype=np.float64)
    frame = ZMatrix.from_bonds(bonds, masses).order[:3]
    neighbours: dict[int, list[int]] = {atom: [] for atom in range(len(masses))}
    for one, other in np.asarray(bonds).tolist():
        neighbours[one].append(other)
        neighbours[other].append(one)
    order = list(frame)

    def branch(atom: int, seen: set[int]) -> set[int]:
        """Atoms that are reached from ``atom`` without passing ``seen``."""
        found, waiting = {atom}, [atom]
        while waiting:
            new = [n for n in neighbours[waiting.pop()] if n not in seen and n not in found]
            found.update(new)
            waiting += new
        return found

    # A stack instead of recursion: proteins are longer than Python's stack is deep.
    waiting = [frame[1], frame[2], frame[0]]
    while waiting:
        atom = waiting.pop()
        if atom not in order:
            order.append(atom)
        placed = set(order)
        branches = [n for n in neighbours[atom] if n not in placed]
        branches.sort(key=lambda n: (len(branch(n, placed)), n), reverse=True)
        waiting += [n for n in branches if n not in waiting]
    return tuple(order)
