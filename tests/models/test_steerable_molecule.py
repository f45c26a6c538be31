"""The steerable generator of molecules: volumes, the law in Cartesian space, and carrying a molecule between temperatures."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import heatbath
from heatbath.models.internal_coordinates import Internal
from heatbath.models.steerable_molecule import SteerableMolecule, steerable_molecule, torsion_groups
from heatbath.models.z_matrix import ZMatrix
from heatbath.training.trainable import trainable

# Methoxymethanol, CH3-O-CH2-O-H: one rotor of three hydrogens, one pair of torsions at the CH2.
BONDS = np.array([(0, 1), (1, 2), (2, 3), (0, 4), (0, 5), (0, 6), (2, 7), (2, 8), (3, 9)])
MASSES = np.array([12.0, 16.0, 12.0, 16.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0])
REFERENCE = 0.1 * np.array(
    [
        (0.0, 0.0, 0.0),
        (1.41, 0.0, 0.0),
        (1.95, 1.28, 0.0),
        (3.35, 1.2, 0.3),
        (-0.4, 1.0, 0.1),
        (-0.36, -0.5, 0.9),
        (-0.36, -0.55, -0.87),
        (1.5, 1.85, 0.85),
        (1.75, 1.8, -0.95),
        (3.7, 2.1, 0.35),
    ]
)
BETA = 0.2


@functools.cache
def model(auxiliaries: int = 3) -> SteerableMolecule:
    """An untrained generator with noise on everything that training may change."""
    made = steerable_molecule(
        jax.random.key(0),
        bonds=BONDS,
        masses=MASSES,
        reference=REFERENCE,
        reference_beta=BETA,
        auxiliaries=auxiliaries,
        layers=2,
        width=16,
        depth=1,
        orders=2,
        pair_orders=2,
    )
    moving, rest = eqx.partition(made, trainable(made))
    leaves, tree = jax.tree.flatten(moving)
    keys = jax.random.split(jax.random.key(1), len(leaves))
    noise = [leaf + 0.1 * jax.random.normal(key, leaf.shape) for key, leaf in zip(keys, leaves, strict=True)]
    return eqx.combine(jax.tree.unflatten(tree, noise), rest)


@functools.cache
def draws(auxiliaries: int = 3, count: int = 60):
    x, log_prob = jax.jit(jax.vmap(model(auxiliaries).sample_and_log_prob))(jax.random.split(jax.random.key(2), count))
    possible = np.isfinite(np.asarray(log_prob))
    assert possible.sum() > count / 2
    return jax.tree.map(lambda leaf: leaf[possible], (x, log_prob))


def test_flat_coordinates_have_the_volume_of_space():
    """|d flat / d internal| must be r^2 sin(theta), or densities over x carry a Jacobian that temperature does not scale."""
    made = model()
    x = draws()[0]["x"][0]
    internal, _ = made.coordinates.from_cartesian(x)
    sizes = np.cumsum([len(internal.bonds), len(internal.angles)])

    def flat(vector):
        reals, angles, _ = made.volume.flat(Internal(*jnp.split(vector, sizes)))
        return jnp.concatenate([reals, angles])

    log_det = np.linalg.slogdet(np.asarray(jax.jit(jax.jacfwd(flat))(jnp.concatenate(internal))))[1]
    # Three times a rotor's angle has a slope of three, which its three equally likely labels take away again.
    assert abs(log_det - np.log(3) - float(made.coordinates.log_volume(internal))) < 1e-9
    back, possible = made.volume.internal(*made.volume.flat(internal))
    assert bool(possible)
    jax.tree.map(functools.partial(np.testing.assert_allclose, atol=1e-10), back, internal)


@pytest.mark.parametrize("auxiliaries", [0, 3])
def test_the_law_holds_in_cartesian_space(auxiliaries):
    """p^tau'(x) must be a power of p^tau(x) for positions; only the centre, whose law does not change, is left out."""
    made, (x, log_prob) = model(auxiliaries), draws(auxiliaries)
    evaluate = jax.jit(jax.vmap(lambda x, beta: made.at(beta).log_prob(x), in_axes=(0, None)))
    np.testing.assert_allclose(evaluate(x, BETA), log_prob, atol=1e-7)
    centred = (
        {**x, "x": x["x"] - x["x"].mean(axis=1, keepdims=True)} if auxiliaries else x - x.mean(axis=1, keepdims=True)
    )
    own = np.asarray(evaluate(centred, BETA))
    for tau in (0.5, 2.0):
        assert (np.asarray(evaluate(centred, BETA / tau)) - own / tau).std() < 1e-7


def test_carrying_has_one_volume_and_keeps_the_pose():
    """Carried swaps rest on a Jacobian that is the same for every x; centre, orientation and labels must survive."""
    made = model(0)
    x = draws(0)[0][:4]
    hot = BETA / 2
    jacobian = jax.jit(jax.vmap(jax.jacfwd(lambda flat: made.carried(flat.reshape(10, 3), hot).reshape(-1))))
    log_dets = np.linalg.slogdet(np.asarray(jacobian(x.reshape(4, 30))))[1]
    np.testing.assert_allclose(log_dets, 0.5 * made.flow.base.linear * np.log(2), atol=1e-6)
    carried = jax.jit(jax.vmap(lambda x: made.carried(x, hot)))(x)
    back = jax.jit(jax.vmap(lambda x: made.at(hot).carried(x, BETA)))(carried)
    np.testing.assert_allclose(back, x, atol=1e-8)
    np.testing.assert_allclose(carried.mean(axis=1), x.mean(axis=1), atol=1e-12)
    assert float(jnp.abs(carried - x).max()) > 1e-3


def test_draws_that_are_no_molecule_weigh_nothing():
    """Very hot draws leave the range of the coordinates; a finite density there would give them weight."""
    made = model().at(BETA / 10)
    x, log_prob = jax.jit(jax.vmap(made.sample_and_log_prob))(jax.random.split(jax.random.key(3), 200))
    assert np.isfinite(np.asarray(x["x"])).all()
    outside = np.asarray(log_prob) == np.inf
    assert 0 < outside.sum() < 200
    assert np.isfinite(np.asarray(log_prob)[~outside]).all()


def test_the_same_arrays_with_and_without_data():
    """A saved model is rebuilt without its data and then filled: shapes must not depend on them."""

    def make(data):
        return steerable_molecule(
            jax.random.key(0),
            bonds=BONDS,
            masses=MASSES,
            reference=REFERENCE,
            reference_beta=BETA,
            data=data,
            layers=1,
            width=8,
            depth=1,
        )

    data = np.asarray(jax.vmap(model(0).sample)(jax.random.split(jax.random.key(5), 400)))
    shapes = [jax.tree.map(lambda leaf: leaf.shape, eqx.filter(make(d), eqx.is_array)) for d in (None, data)]
    assert jax.tree.structure(shapes[0]) == jax.tree.structure(shapes[1])
    assert jax.tree.leaves(shapes[0]) == jax.tree.leaves(shapes[1])


def test_phi_and_psi_are_a_pair():
    """The joint table belongs to the two bonds whose rotations make the basins of a peptide."""
    target = heatbath.molecule("alanine-dipeptide")
    z_matrix = ZMatrix.from_bonds(target.topology.bonds, target.terms.masses)
    singles, pairs = torsion_groups(z_matrix, target.topology.bonds)
    assert len(pairs) == 1
    assert len(singles) == len(z_matrix.free) - 2
    names = target.topology.atom_names
    turned = set()
    for place in pairs[0]:
        slot = z_matrix.free[place] + 3
        turned.add(frozenset(names[z_matrix.order[s]] for s in (z_matrix.parent[slot], z_matrix.grandparent[slot])))
    assert turned == {frozenset(("N", "CA")), frozenset(("CA", "C"))}
