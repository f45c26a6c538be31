"""``Molecule``: a force field, a topology and a reference structure as one target."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key, Scalar

from heatbath.errors import InvalidArgumentError, NonFiniteError, StructureError
from heatbath.spaces import Euclidean
from heatbath.targets.base import Observable, Target
from heatbath.targets.molecules import stereochemistry
from heatbath.targets.molecules.energy import Backend, components_function, energy_function
from heatbath.targets.molecules.observables import (
    TorsionSide,
    backbone_torsions,
    molecule_observables,
    ramachandran_names,
    ramachandran_residues,
)
from heatbath.targets.molecules.terms import ForceFieldTerms
from heatbath.targets.molecules.topology import MoleculeTopology


class Molecule(Target):
    """A flexible molecule in a vacuum or an implicit solvent. x has shape (n_atoms, 3) in nm, energies are in kJ/mol.

    ``positions`` is the reference structure: where chains start and what stereochemistry is compared with; ``None`` when
    the molecule was made from a System alone. ``backend`` chooses the evaluator (``targets/molecules/energy.py``).
    """

    space: Euclidean
    positions: Float[Array, "atoms 3"] | None
    terms: ForceFieldTerms = eqx.field(static=True)
    topology: MoleculeTopology = eqx.field(static=True)
    name: str = eqx.field(static=True)
    forcefield: str = eqx.field(static=True)
    backend: Backend = eqx.field(static=True)

    def __init__(
        self,
        terms: ForceFieldTerms,
        topology: MoleculeTopology,
        positions: Any = None,
        *,
        name: str = "molecule",
        forcefield: str = "",
        backend: Backend = "auto",
    ):
        if topology.n_atoms != terms.n_atoms:
            raise InvalidArgumentError(
                f"the topology has {topology.n_atoms} atoms, the System {terms.n_atoms}; they must belong together"
            )
        self.space = Euclidean((terms.n_atoms, 3))
        self.positions = None if positions is None else _checked_positions(positions, terms.n_atoms)
        self.terms, self.topology, self.name = terms, topology, name
        self.forcefield, self.backend = forcefield, backend

    def __hash__(self) -> int:
        # makes jax.jit(molecule.energy) possible; bound methods are compared by the identity of their object
        return hash((self.terms, self.topology, self.name, self.backend))

    @property
    def unit(self) -> str:
        return "kJ/mol"

    @property
    def n_atoms(self) -> int:
        """Number of atoms."""
        return self.terms.n_atoms

    @property
    def masses(self) -> Float[Array, "atoms 1"]:
        """Atomic masses in u, shape (n_atoms, 1)."""
        return jnp.asarray(self.terms.masses[:, None], dtype=float)

    def energy(self, x: Float[Array | np.ndarray, "atoms 3"]) -> Scalar:
        """U(x) in kJ/mol for x in nm, in the precision of x. ``jax.vmap`` of it runs batched code."""
        return energy_function(self.terms, self.backend)(jnp.asarray(x))

    def energy_components(self, x: Float[Array, "atoms 3"]) -> dict[str, Array]:
        """The energy per kind of term (bonds, angles, torsions, cmap, nonbonded, solvent), kJ/mol."""
        return components_function(self.terms)(x)

    def initial(self, key: Key[Array, ""]) -> Float[Array, "atoms 3"]:
        """The reference structure. Raises ``StructureError`` when there is none."""
        return self._reference()

    def _reference(self) -> Float[Array, "atoms 3"]:
        if self.positions is None:
            raise StructureError(
                "this molecule has no reference structure; pass positions= (nm) to from_openmm, or give the sampler a start"
            )
        return self.positions

    # What people look at ---------------------------------------------------------------------------------------------
    def observables(self) -> Mapping[str, Observable]:
        """Backbone torsions, and sizes of longer chains; see ``molecule_observables`` for their names."""
        return molecule_observables(self.topology, tuple(self.terms.masses.tolist()))

    @property
    def ramachandran(self) -> tuple[tuple[str, str], ...]:
        """Names of the observables (phi, psi), one pair per residue that has both."""
        return ramachandran_names(self.topology)

    def basins(self) -> Mapping[str, Callable[[Array], Array]]:
        """``"phi < 0"`` and ``"phi > 0"`` of the first residue that has phi and psi.

        The first holds the beta, polyproline and right-handed helical regions, the second the left-handed ones (for
        alanine dipeptide alpha_L and C7ax). Delta F of a peptide is F(phi > 0) - F(phi < 0); phi = 0 belongs to the
        first. Empty for molecules without such a residue.
        """
        residues = ramachandran_residues(self.topology)
        if not residues:
            return {}
        phi = backbone_torsions(self.topology)["phi", residues[0]]
        return {"phi < 0": TorsionSide(phi, positive=False), "phi > 0": TorsionSide(phi, positive=True)}

    # Stereochemistry -------------------------------------------------------------------------------------------------
    @property
    def stereocentres(self) -> tuple[stereochemistry.Stereocentre, ...]:
        """Atoms with four different neighbours."""
        return stereochemistry.stereocentres(self.topology)

    def chirality(self, x: Float[Array, "atoms 3"]) -> Int[Array, " centres"]:
        """+1 or -1 per entry of ``stereocentres``."""
        return stereochemistry.handedness(self.stereocentres, x)

    def peptide_bonds(self, x: Float[Array, "atoms 3"]) -> Float[Array, " bonds"]:
        """Torsion omega of every peptide bond, radians; cis is |omega| < pi/2."""
        return stereochemistry.omegas(stereochemistry.peptide_bonds(self.topology), x)

    def stereochemistry_violations(
        self, xs: Float[Array | np.ndarray, "*frames atoms 3"]
    ) -> stereochemistry.Violations:
        """Inverted centres and flipped peptide bonds of ``xs`` relative to the reference structure."""
        return stereochemistry.count_violations(self.topology, self._reference(), xs)

    # Structures ------------------------------------------------------------------------------------------------------
    def minimise(
        self,
        x: Float[Array | np.ndarray, "atoms 3"] | None = None,
        *,
        tolerance: float = 10.0,
        max_iterations: int = 3000,
    ) -> Float[Array, "atoms 3"]:
        """A local minimum of the energy near ``x`` (default: the reference), by L-BFGS in float64, in the dtype of ``x``.

        Stops when no component of the force exceeds ``tolerance`` kJ/mol/nm, or after ``max_iterations``. Raises
        ``NonFiniteError`` when the energy of the start is not finite.
        """
        start = self._reference() if x is None else jnp.asarray(x)
        found = minimise_energy(
            self.terms, self.backend, np.asarray(start), tolerance=tolerance, max_iterations=max_iterations
        )
        return jnp.asarray(found, start.dtype)

    def to_openmm_topology(self) -> Any:
        """The topology as an ``openmm.app.Topology``, for writing files."""
        return self.topology.to_openmm()


def _checked_positions(positions: Any, n_atoms: int) -> Array:
    values = np.asarray(positions, dtype=np.float64)
    if values.shape != (n_atoms, 3):
        raise InvalidArgumentError(f"expected positions of shape ({n_atoms}, 3) in nm, found {values.shape}")
    if not np.isfinite(values).all():
        atom = int(np.argwhere(~np.isfinite(values))[0, 0])
        raise StructureError(f"the position of atom {atom} is {values[atom].tolist()}; every coordinate must be finite")
    return jnp.asarray(values, dtype=float)


@functools.lru_cache(maxsize=16)
def _value_and_gradient(terms: ForceFieldTerms, backend: Backend) -> Callable:
    return jax.jit(jax.value_and_grad(energy_function(terms, backend)))


def minimise_energy(
    terms: ForceFieldTerms,
    backend: Backend,
    x: Float[np.ndarray, "atoms 3"],
    *,
    tolerance: float = 10.0,
    max_iterations: int = 3000,
) -> Float[np.ndarray, "atoms 3"]:
    """L-BFGS from ``x`` in float64, whatever the default precision of JAX is; see ``Molecule.minimise``."""
    from scipy.optimize import minimize

    evaluate = _value_and_gradient(terms, backend)

    def value_and_gradient(flat: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = evaluate(jnp.asarray(flat.reshape(x.shape), dtype=jnp.float64))
        return float(value), np.asarray(gradient).ravel()

    options = {"maxiter": max_iterations, "maxfun": 2 * max_iterations, "gtol": tolerance, "ftol": 0.0, "maxcor": 20}
    start = np.asarray(x, dtype=np.float64).ravel()
    with jax.enable_x64(True):  # noqa: FBT003
        value, gradient = value_and_gradient(start)
        if not (np.isfinite(value) and np.isfinite(gradient).all()):
            raise NonFiniteError(
                f"the energy of the start is {value} kJ/mol; atoms lie on top of each other. Give another structure."
            )
        found = minimize(value_and_gradient, start, jac=True, method="L-BFGS-B", options=options)
    return found.x.reshape(x.shape)
