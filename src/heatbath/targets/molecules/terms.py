"""The one internal table of force-field terms: plain float64 and integer arrays in nm, kJ/mol, u and e.

Readers fill it (``openmm_system.terms_from_system``), evaluators read it (the XLA code in ``energy.py`` and the
compiled CPU kernel). Neither knows the other, and nothing here imports JAX or OpenMM.
"""

import dataclasses
import functools
import hashlib
from collections.abc import Callable
from dataclasses import field
from typing import Literal

import numpy as np

from heatbath.errors import InvalidArgumentError

#: e^2 / (4 pi epsilon_0) in kJ/mol nm, as NonbondedForce and GBSAOBCForce of OpenMM have it.
COULOMB_CONSTANT = 138.93545764438198

#: (alpha, beta, gamma) in B = 1 / (1/rho - tanh(alpha psi - beta psi^2 + gamma psi^3) / R) (Onufriev et al. 2004).
OBC_CONSTANTS = {"obc1": (0.8, 0.0, 2.909125), "obc2": (1.0, 0.8, 4.85)}

_OWNERS = {  # per-term parameters, and the field that says how many terms there are
    "bond_length": "bond_atoms",
    "bond_k": "bond_atoms",
    "angle_value": "angle_atoms",
    "angle_k": "angle_atoms",
    "torsion_phase": "torsion_atoms",
    "torsion_k": "torsion_atoms",
    "exception_chargeprod": "exception_atoms",
    "exception_sigma": "exception_atoms",
    "exception_epsilon": "exception_atoms",
}
_ATOMS = {"bond_atoms": 2, "angle_atoms": 3, "torsion_atoms": 4, "cmap_torsions": 8, "exception_atoms": 2}
_PER_ATOM = ("charges", "sigma", "epsilon")
_GB_PER_ATOM = ("gb_charges", "gb_offset_radius", "gb_scaled_radius", "gb_radius")


def _none() -> np.ndarray:
    return np.zeros(0)


def _none_of(*width: int) -> Callable[[], np.ndarray]:
    return lambda: np.zeros((0, *width))


@dataclasses.dataclass(frozen=True, eq=False)
class ForceFieldTerms:
    """Every term of a molecular energy without constraints, in a vacuum or an implicit solvent.

    Bonds      k/2 (r - r0)^2.
    Angles     k/2 (theta - theta0)^2, radians.
    Torsions   k (1 + cos(n phi - phase)); terms with k = 0 are not in the table.
    CMAP       atoms a1 a2 a3 a4 of the first torsion and b1 b2 b3 b4 of the second; ``cmap_maps[m, i, j]`` is the energy
               at (phi, psi) = (i, j) 2 pi / size, between which the energy is the bicubic patch whose derivatives at the
               nodes come from periodic natural splines.
    Nonbonded  for every pair i < j that is no exception  4 eps ((s/r)^12 - (s/r)^6) + coulomb q_i q_j / r  with
               s = (s_i + s_j)/2 and eps = sqrt(eps_i eps_j); an exception has its own charge product, sigma and
               epsilon instead (all zero: an exclusion).
               ``nonbonded_method``: ``"none"`` (no such force), ``"no_cutoff"``, or ``"cutoff_non_periodic"``: pairs
               beyond ``cutoff`` contribute nothing, q q / r becomes q q (1/r + k_rf r^2 - c_rf) with
               k_rf = (d - 1)/(2 d + 1)/cutoff^3, c_rf = 3 d/(2 d + 1)/cutoff, d = ``reaction_field_dielectric``, and
               the Lennard-Jones part is multiplied by 1 - 10 t^3 + 15 t^4 - 6 t^5, t = (r - switch)/(cutoff - switch),
               beyond ``switching_distance``. Exceptions are never cut, shifted or switched.
    Solvent    generalised Born with OBC radii. For every ordered pair (i, j), r within ``gb_cutoff``:
               I_i += 1/2 (1/L - 1/U + (r - s_j^2/r)(1/U^2 - 1/L^2)/4 + log(L/U)/(2 r))  if  r + s_j > rho_i,
               U = r + s_j, L = max(rho_i, |r - s_j|), rho = ``gb_offset_radius``, s = ``gb_scaled_radius``; with
               ``gb_engulfed_term`` also  I_i += 1/rho_i - 1/L  where  rho_i < s_j - r.
               psi = rho I;  B = 1/(1/rho - tanh(alpha psi - beta psi^2 + gamma psi^3)/R), R = ``gb_radius``.
               E = -c (1/eps_solute - 1/eps_solvent) (1/2 sum_i q_i^2/B_i + sum_{i<j} q_i q_j (1/f_ij - shift)),
               f^2 = r^2 + B_i B_j exp(-r^2/(4 B_i B_j)), shift = 1/gb_cutoff with a cutoff and 0 without,
               c = ``gb_coulomb_constant``; exceptions do not matter here.
               E_surface = a sum_i (R_i + 0.14)^2 (R_i/B_i)^6, a = ``gb_surface_constant`` (0: no surface term).

    Sources: OpenMM user guide, theory chapters on the standard forces; Onufriev, Bashford, Case, Proteins 55, 383
    (2004); Schaefer, Bartels, Karplus, J. Mol. Biol. 284, 835 (1998). Raises ``InvalidArgumentError`` when shapes
    disagree, indices are out of range, or values are not finite. Two tables with equal content are equal and have
    equal hashes.
    """

    masses: np.ndarray  # (n,)
    bond_atoms: np.ndarray = field(default_factory=_none_of(2))
    bond_length: np.ndarray = field(default_factory=_none)
    bond_k: np.ndarray = field(default_factory=_none)
    angle_atoms: np.ndarray = field(default_factory=_none_of(3))
    angle_value: np.ndarray = field(default_factory=_none)
    angle_k: np.ndarray = field(default_factory=_none)
    torsion_atoms: np.ndarray = field(default_factory=_none_of(4))
    torsion_periodicity: np.ndarray = field(default_factory=_none)
    torsion_phase: np.ndarray = field(default_factory=_none)
    torsion_k: np.ndarray = field(default_factory=_none)
    cmap_torsions: np.ndarray = field(default_factory=_none_of(8))
    cmap_map_index: np.ndarray = field(default_factory=_none)
    cmap_maps: np.ndarray = field(default_factory=_none_of(0, 0))  # (maps, size, size)
    nonbonded_method: Literal["none", "no_cutoff", "cutoff_non_periodic"] = "none"
    charges: np.ndarray = field(
        default_factory=_none
    )  # (n,) unless nonbonded_method is "none"; so are sigma and epsilon
    sigma: np.ndarray = field(default_factory=_none)
    epsilon: np.ndarray = field(default_factory=_none)
    exception_atoms: np.ndarray = field(default_factory=_none_of(2))  # every exception, also those that are zero
    exception_chargeprod: np.ndarray = field(default_factory=_none)
    exception_sigma: np.ndarray = field(default_factory=_none)
    exception_epsilon: np.ndarray = field(default_factory=_none)
    coulomb_constant: float = COULOMB_CONSTANT
    cutoff: float | None = None
    switching_distance: float | None = None
    reaction_field_dielectric: float = 78.3
    gb_model: Literal["obc1", "obc2"] | None = None
    gb_alpha: float = 0.0
    gb_beta: float = 0.0
    gb_gamma: float = 0.0
    gb_charges: np.ndarray = field(default_factory=_none)  # (n,) with a gb_model; so are the radii
    gb_offset_radius: np.ndarray = field(default_factory=_none)
    gb_scaled_radius: np.ndarray = field(default_factory=_none)
    gb_radius: np.ndarray = field(default_factory=_none)
    gb_solute_dielectric: float = 1.0
    gb_solvent_dielectric: float = 78.5
    gb_surface_constant: float = 0.0
    gb_coulomb_constant: float = COULOMB_CONSTANT
    gb_cutoff: float | None = None
    gb_engulfed_term: bool = False

    def __post_init__(self):
        for entry in dataclasses.fields(self):
            value = getattr(self, entry.name)
            if isinstance(value, (np.ndarray, list, tuple)):
                integer = entry.name in _ATOMS or entry.name in ("torsion_periodicity", "cmap_map_index")
                array = np.ascontiguousarray(value, dtype=np.int32 if integer else np.float64)
                array.flags.writeable = False
                object.__setattr__(self, entry.name, array)
        self._check()

    @property
    def n_atoms(self) -> int:
        """Number of atoms."""
        return len(self.masses)

    def _check(self):
        n = self.n_atoms
        lengths = {name: len(getattr(self, owner)) for name, owner in _OWNERS.items()}
        lengths |= {"torsion_periodicity": len(self.torsion_atoms), "cmap_map_index": len(self.cmap_torsions)}
        lengths |= dict.fromkeys(_PER_ATOM, 0 if self.nonbonded_method == "none" else n)
        lengths |= dict.fromkeys(_GB_PER_ATOM, 0 if self.gb_model is None else n)
        for name, length in lengths.items():
            if getattr(self, name).shape != (length,):
                raise InvalidArgumentError(f"{name} must have shape ({length},); found {getattr(self, name).shape}")
        for name, width in _ATOMS.items():
            atoms = getattr(self, name)
            if atoms.ndim != 2 or atoms.shape[1] != width:
                raise InvalidArgumentError(f"{name} must have shape (terms, {width}); found {atoms.shape}")
            if atoms.size and not (atoms.min() >= 0 and atoms.max() < n):
                raise InvalidArgumentError(f"{name} must name atoms 0 to {n - 1}; found {atoms.min()} to {atoms.max()}")
        for entry in dataclasses.fields(self):
            value = getattr(self, entry.name)
            if isinstance(value, (np.ndarray, float)) and not np.isfinite(value).all():
                raise InvalidArgumentError(f"{entry.name} must be finite; it holds NaN or infinity")
        if self.nonbonded_method == "cutoff_non_periodic" and not (self.cutoff or 0) > 0:
            raise InvalidArgumentError(f"cutoff must be positive with cutoff_non_periodic; found {self.cutoff}")

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256 of the content, in hexadecimal."""
        digest = hashlib.sha256()
        for entry in dataclasses.fields(self):
            value = getattr(self, entry.name)
            content = (value.shape, value.tobytes()) if isinstance(value, np.ndarray) else value
            digest.update(repr((entry.name, content)).encode())
        return digest.hexdigest()

    def __hash__(self) -> int:
        return hash(self.digest)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ForceFieldTerms) and self.digest == other.digest

    def replace(self, **changes) -> "ForceFieldTerms":
        """A copy with some fields changed."""
        return dataclasses.replace(self, **changes)
