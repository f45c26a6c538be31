"""The generalised Born energy of an implicit solvent with OBC radii, in JAX: all pairs, batch as trailing axes."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from heatbath.targets.molecules.bonded import column
from heatbath.targets.molecules.terms import ForceFieldTerms

#: Radius of the solvent probe in the surface term, nm.
PROBE_RADIUS = 0.14


def born_radii(r2: Float[Array, "atoms atoms ..."], terms: ForceFieldTerms) -> Float[Array, "atoms ..."]:
    """Effective Born radii B, nm (``ForceFieldTerms`` has the formulas). ``r2`` has ones on its diagonal."""
    inverse = jax.lax.rsqrt(r2)
    r = r2 * inverse
    rho = column(terms.gb_offset_radius[:, None], r)
    scaled = column(terms.gb_scaled_radius[None, :], r)
    upper = r + scaled
    nearest = jnp.abs(r - scaled)
    inverse_lower, inverse_upper = 1.0 / jnp.maximum(rho, nearest), 1.0 / upper
    logarithm = jnp.log(upper * inverse_lower)
    # the two quadratic terms in factored form: their difference would lose digits for distant pairs
    difference = inverse_lower - inverse_upper
    integral = 0.5 * (
        difference
        - 0.25 * (r - scaled * scaled * inverse) * difference * (inverse_lower + inverse_upper)
        - 0.5 * logarithm * inverse
    )
    if terms.gb_engulfed_term:
        integral = integral + jnp.where(rho < scaled - r, 1.0 / rho - inverse_lower, 0.0)
    counted = (upper > rho) & ~column(np.eye(terms.n_atoms), r).astype(bool)
    if terms.gb_cutoff is not None:
        counted = counted & (r2 < terms.gb_cutoff**2)
    psi = jnp.where(counted, integral, 0.0).sum(axis=1)
    offset_radius = column(terms.gb_offset_radius, psi)
    psi = psi * offset_radius
    inner = psi * (terms.gb_alpha - psi * (terms.gb_beta - psi * terms.gb_gamma))
    return 1.0 / (1.0 / offset_radius - jnp.tanh(inner) / column(terms.gb_radius, psi))


def solvent_energy(r2: Float[Array, "atoms atoms ..."], terms: ForceFieldTerms) -> Float[Array, "..."]:
    """Polar energy of the solvent plus the surface term, kJ/mol."""
    born = born_radii(r2, terms)
    scale = -terms.gb_coulomb_constant * (1.0 / terms.gb_solute_dielectric - 1.0 / terms.gb_solvent_dielectric)
    pairs = _pair_energy(r2, born, terms)
    own = 0.5 * column(terms.gb_charges**2, born) / born
    surface = terms.gb_surface_constant * (terms.gb_radius + PROBE_RADIUS) ** 2 * terms.gb_radius**6
    return scale * (pairs + own.sum(axis=0)) + (column(surface, born) / born**6).sum(axis=0)


def _pair_energy(r2: Array, born: Array, terms: ForceFieldTerms) -> Array:
    """sum_{i<j} q_i q_j (1/f - shift), both orders computed and halved."""
    charges = terms.gb_charges[:, None] * terms.gb_charges
    np.fill_diagonal(charges, 0.0)
    product = born[:, None] * born[None, :]
    inverse = jax.lax.rsqrt(r2 + product * jnp.exp(-0.25 * r2 / product))
    if terms.gb_cutoff is not None:
        inverse = jnp.where(r2 < terms.gb_cutoff**2, inverse - 1.0 / terms.gb_cutoff, 0.0)
    return 0.5 * (column(charges, r2) * inverse).sum(axis=(0, 1))
