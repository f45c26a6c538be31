"""The steerable generator of molecules: volumes, the law in Cartesian space, and carrying a molecule between temperatures."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

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
def model() -> SteerableMolecule:
    """An untrained generator with noise on everything that training may change."""
    made = steerable_molecule(
        jax.random.key(0),
        bonds=BONDS,
        masses=MASSES,
        reference=REFERENCE,
        reference_beta=BETA,
        auxiliaries=3,
        layers=2,
        width=16,
        depth=0,
        orders=2,
        pair_orders=2,
    )
    moving, rest = eqx.partition(made, trainable(made))
    leaves, tree = jax.tree.flatten(moving)
    noise = np.random.default_rng(1)
    shaken = [leaf + 0.1 * noise.normal(size=leaf.shape).astype(leaf.dtype) for leaf in leaves]
    return eqx.combine(jax.tree.unflatten(tree, shaken), rest)


@eqx.filter_jit
def sampled(made, keys):
    """Draws and their log densities."""
    return jax.vmap(made.sample_and_log_prob)(keys)


@eqx.filter_jit
def log_probs(made, values, beta):
    """log p at another temperature."""
    return jax.vmap(made.at(beta).log_prob)(values)


@eqx.filter_jit
def moved(made, rows, beta):
    """Flat (positions, momenta) carried to another temperature, and the Jacobian of that."""

    def one(flat):
        value = made.carried({"x": flat[:30].reshape(10, 3), "y": flat[30:]}, beta)
        there = jnp.concatenate([value["x"].reshape(-1), value["y"]])
        return there, there

    jacobians, values = jax.lax.map(jax.jacfwd(one, has_aux=True), rows)
    return values, jacobians


@functools.cache
def draws():
    x, log_prob = sampled(model(), jax.random.split(jax.random.key(2), 100))
    possible = np.isfinite(np.asarray(log_prob))
    assert possible.sum() > 60
    return jax.tree.map(lambda leaf: leaf[possible][:60], (x, log_prob))


def test_flat_coordinates_have_the_volume_of_space():
    """|d flat / d internal| must be r^2 sin(theta), or densities over x carry a Jacobian that temperature does not scale."""
    made = model()
    x = draws()[0]["x"][0]

    @jax.jit
    def program(x):
        internal, log_det = made.coordinates.from_cartesian(x)
        flat, back = made.volume.flat, made.volume.internal(*made.volume.flat(internal))
        return internal, -log_det, jax.jacfwd(lambda i: jnp.concatenate(flat(i)[:2]))(internal), back

    internal, log_volume, jacobian, (back, possible) = program(x)
    log_det = np.linalg.slogdet(np.concatenate([np.asarray(part) for part in jacobian], axis=1))[1]
    # Three times a rotor's angle has a slope of three, which its three equally likely labels take away again.
    assert abs(log_det - np.log(3) - float(log_volume)) < 1e-9
    assert bool(possible)
    jax.tree.map(functools.partial(np.testing.assert_allclose, atol=1e-10), back, internal)


def centred(value):
    """With the centre, whose law does not change with temperature, at the origin."""
    return {**value, "x": value["x"] - value["x"].mean(axis=1, keepdims=True)}


def test_the_law_holds_in_cartesian_space():
    """p^tau'(x) must be a power of p^tau(x) for positions; only the centre, whose law does not change, is left out."""
    x, log_prob = draws()
    np.testing.assert_allclose(log_probs(model(), x, jnp.asarray(BETA)), log_prob, atol=1e-7)
    own = np.asarray(log_probs(model(), centred(x), jnp.asarray(BETA)))
    assert own.std() > 1
    for tau in (0.3, 0.5, 0.8, 2.0, 3.0):
        assert (np.asarray(log_probs(model(), centred(x), jnp.asarray(BETA / tau))) - own / tau).std() < 1e-7


def test_angles_themselves_break_the_law():
    """Negative control: the same law with the Jacobian of bonds and angles in the density fails in Cartesian space."""
    made, (x, _) = model(), draws()
    volume = np.asarray(jax.jit(jax.vmap(lambda x: -made.coordinates.from_cartesian(x)[1]))(x["x"]))
    own, hot = (np.asarray(log_probs(made, centred(x), jnp.asarray(BETA / tau))) - volume for tau in (1.0, 2.0))
    assert (hot - own / 2).std() > 0.05


def test_carrying_has_one_volume_and_keeps_the_pose():
    """Carried swaps rest on a Jacobian that is the same for every x; centre, orientation and labels must survive."""
    made, hot = model(), BETA / 2
    x = jax.tree.map(lambda leaf: np.asarray(leaf[:4]), draws()[0])
    rows = np.concatenate([x["x"].reshape(4, 30), x["y"]], axis=1)
    there, jacobians = moved(made, rows, jnp.asarray(hot))
    log_dets = np.linalg.slogdet(np.asarray(jacobians))[1]
    np.testing.assert_allclose(log_dets, 0.5 * made.flow.base.linear * np.log(2), atol=1e-6)
    back, _ = moved(made.at(hot), there, jnp.asarray(BETA))
    np.testing.assert_allclose(back, rows, atol=1e-8)
    positions = np.asarray(there)[:, :30].reshape(4, 10, 3)
    np.testing.assert_allclose(positions.mean(axis=1), x["x"].mean(axis=1), atol=1e-12)
    assert np.abs(positions - x["x"]).max() > 1e-3


def test_draws_that_are_no_molecule_weigh_nothing():
    """Very hot draws leave the range of the coordinates; a finite density there would give them weight."""
    x, log_prob = sampled(model().at(BETA / 10), jax.random.split(jax.random.key(3), 100))
    assert np.isfinite(np.asarray(x["x"])).all()
    outside = np.asarray(log_prob) == np.inf
    assert 0 < outside.sum() < 100
    assert np.isfinite(np.asarray(log_prob)[~outside]).all()


def test_training_data_are_exchanged_and_extended():
    """An exchange of other atoms than equal hydrogens would teach another molecule; momenta must be those of the training."""
    augment, x = model().augmentation, jnp.asarray(REFERENCE)
    values = jax.jit(jax.vmap(augment, in_axes=(0, None)))(jax.random.split(jax.random.key(4), 300), x)
    assert values["y"].shape == (300, 3)
    assert abs(float(values["y"].std()) - 1) < 0.11  # 4.5 standard errors
    orders = np.abs(np.asarray(values["x"])[:, :, None] - REFERENCE).sum(axis=-1).argmin(axis=-1)
    cycles = {(4, 5, 6), (5, 6, 4), (6, 4, 5)}
    assert {tuple(row[4:7]) for row in orders.tolist()} == cycles
    assert (np.delete(orders, [4, 5, 6], axis=1) == [0, 1, 2, 3, 7, 8, 9]).all()


def test_the_same_arrays_with_and_without_data():
    """A saved model is rebuilt without its data and then filled: shapes must not depend on them."""

    def make(data):
        sizes = {"layers": 1, "width": 4, "depth": 0, "orders": 1, "pair_orders": 1}
        molecule = {"bonds": BONDS, "masses": MASSES, "reference": REFERENCE, "reference_beta": BETA}
        return steerable_molecule(jax.random.key(0), **molecule, data=data, **sizes)

    made = make(np.asarray(draws()[0]["x"]))
    assert made.auxiliaries == made.volume.reals
    shapes = [jax.tree.map(lambda leaf: leaf.shape, eqx.filter(found, eqx.is_array)) for found in (make(None), made)]
    assert jax.tree.structure(shapes[0]) == jax.tree.structure(shapes[1])
    assert jax.tree.leaves(shapes[0]) == jax.tree.leaves(shapes[1])


# Ace-Ala-Nme in the order of PDB files: names of the atoms, and their bonds.
DIPEPTIDE = ("HH31", "CH3", "HH32", "HH33", "C", "O", "N", "H", "CA", "HA", "CB", "HB1", "HB2", "HB3", "C'", "O'", "N'",
             "H'", "CM", "HM1", "HM2", "HM3")  # fmt: skip
DIPEPTIDE_BONDS = np.array(
    [(0, 1), (2, 1), (3, 1), (1, 4), (4, 5), (4, 6), (6, 7), (6, 8), (8, 9), (8, 10), (10, 11), (10, 12), (10, 13),
     (8, 14), (14, 15), (14, 16), (16, 17), (16, 18), (18, 19), (18, 20), (18, 21)]
)  # fmt: skip


def test_phi_and_psi_are_a_pair():
    """The joint table belongs to the two bonds whose rotations make the basins of a peptide."""
    names, bonds = DIPEPTIDE, DIPEPTIDE_BONDS
    masses = [{"H": 1.0, "C": 12.0, "N": 14.0, "O": 16.0}[name[0]] for name in names]
    z_matrix = ZMatrix.from_bonds(bonds, masses)
    singles, pairs = torsion_groups(z_matrix, bonds)
    assert len(pairs) == 1
    assert len(singles) == len(z_matrix.free) - 2
    turned = set()
    for place in pairs[0]:
        slot = z_matrix.free[place] + 3
        turned.add(frozenset(names[z_matrix.order[s]] for s in (z_matrix.parent[slot], z_matrix.grandparent[slot])))
    assert turned == {frozenset(("N", "CA")), frozenset(("CA", "C'"))}
