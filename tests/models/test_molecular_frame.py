"""Shapes in the molecule's own frame: exact inverse, exact volume, no dependence on pose, normalised over all of R^(3N)."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from heatbath.errors import InvalidArgumentError
from heatbath.models.binned_autoregressive import BinnedSize, binned_autoregressive
from heatbath.models.gaussian import Normal
from heatbath.models.molecular_frame import (
    LOG_ORIENTATIONS,
    FrameCoordinates,
    depth_first_order,
    framed_generator,
)
from heatbath.models.rigid import RigidAugmentation, random_rotation
from heatbath.models.transformer_flow import TransformerFlowSize, transformer_flow

CENTRE = 0.2


def structures(count: int, atoms: int = 5):
    """Configurations scattered around a bent chain, in nm."""
    chain = np.array([[0, 0, 0], [0.15, 0, 0], [0.1, 0.2, 0], [-0.1, 0.1, 0.3], [0.0, -0.15, 0.2]])[:atoms]
    return chain + 0.02 * np.random.default_rng(4).normal(size=(count, atoms, 3))


@pytest.fixture(scope="module")
def generator():
    """A normal law of standardised shapes; the frame is spanned by atoms 2, 0 and 4."""
    return framed_generator(
        Normal(jnp.zeros(9), 1.0), n_atoms=5, data=structures(200), order=[2, 0, 4, 1, 3], centre_scale=CENTRE
    )


def test_shapes_come_back(key):
    """x -> shape -> x must be x up to rigid motion, and shape -> x -> shape the identity with opposite log determinants."""
    x = jnp.asarray(structures(1)[0]) @ random_rotation(key).T + 1.0
    shape, log_det = FrameCoordinates().inverse(x)
    placed, log_det_back = FrameCoordinates().forward(shape)
    np.testing.assert_allclose(log_det, -log_det_back, atol=1e-12)
    np.testing.assert_allclose(FrameCoordinates().inverse(placed)[0], shape, atol=1e-12)
    centred, other = x - x[0], placed - placed[0]
    np.testing.assert_allclose(other @ other.T, centred @ centred.T, atol=1e-12)
    assert np.linalg.det(np.asarray(other[1:4])) * np.linalg.det(np.asarray(centred[1:4])) > 0


def test_volume_against_the_jacobian(key):
    """|d x/d (shape, orientation, place)| by differentiating the full map must be what the log determinant says.

    Orientation by a rotation vector at the identity, where the volume of SO(3) is that of R^3.
    """
    shape = FrameCoordinates().inverse(jnp.asarray(structures(1)[0]))[0]

    def full(shape, turn, place):
        x = FrameCoordinates().forward(shape)[0]
        x = x + jnp.cross(jnp.broadcast_to(turn, x.shape), x)
        return (x - x.mean(0) + place).ravel()

    parts = jax.jacfwd(full, argnums=(0, 1, 2))(shape, jnp.zeros(3), jnp.zeros(3))
    jacobian = np.concatenate([np.asarray(part) for part in parts], axis=1)
    np.testing.assert_allclose(FrameCoordinates().forward(shape)[1], np.linalg.slogdet(jacobian)[1], atol=1e-10)


def test_density_does_not_depend_on_orientation(generator, key):
    """Turning about the centre leaves log q as it is; moving the centre changes it by the normal law; mirroring changes it."""
    x = jnp.asarray(structures(1)[0])
    x = x - x.mean(0)
    turned = x @ random_rotation(key).T
    np.testing.assert_allclose(generator.log_prob(turned), generator.log_prob(x), atol=1e-9)
    shift = jnp.asarray([0.1, -0.2, 0.3])
    np.testing.assert_allclose(
        generator.log_prob(turned + shift) - generator.log_prob(x), -0.5 * 0.14 / CENTRE**2, atol=1e-9
    )
    assert generator.log_prob(-x) < generator.log_prob(x) - 10


def test_density_is_normalised_over_all_positions():
    """The mean of q/p over draws of a density p known in closed form must be 1 (5 standard errors).

    p: four atoms, each a wide normal about the origin, so that a wrong constant, power of r or of c2, or volume of orientations
    shows. Negative control: forgetting 8 pi^2 is off by a factor 79.
    """
    width, atoms = 1.0, 4
    generator = framed_generator(Normal(jnp.zeros(6), 0.4), n_atoms=atoms, centre_scale=0.4)
    x = width * jax.random.normal(jax.random.key(3), (400_000, atoms, 3))
    log_p = -0.5 * jnp.sum((x / width) ** 2, axis=(1, 2)) - 6 * jnp.log(2 * jnp.pi * width**2)
    ratio = np.exp(np.asarray(eqx.filter_jit(generator.log_probs)(x) - log_p))
    error = ratio.std() / np.sqrt(len(ratio))
    assert error < 0.05
    assert abs(ratio.mean() - 1) < 5 * error
    assert abs(ratio.mean() * np.exp(LOG_ORIENTATIONS) - 1) > 50 * error


def test_draws_carry_their_density(generator):
    """log q of a draw must be that of ``log_prob``; the centre of draws must have its law."""
    x, log_prob = eqx.filter_jit(lambda m, keys: jax.vmap(m.sample_and_log_prob)(keys))(
        generator, jax.random.split(jax.random.key(0), 3000)
    )
    np.testing.assert_allclose(generator.log_probs(x), log_prob, atol=1e-8)
    np.testing.assert_allclose(generator.log_prob(x[0]), log_prob[0], atol=1e-8)
    variance = np.asarray(x).mean(1).var(0)
    assert (np.abs(variance / CENTRE**2 - 1) < 5 * np.sqrt(2 / 3000)).all()


@pytest.mark.parametrize("kind", ["transformer", "binned"])
def test_models_in_the_frame(kind, key):
    """Transformer flows (with correlated channels) and binned models must keep draws and densities consistent there."""
    if kind == "transformer":
        size = TransformerFlowSize(channels=8, blocks=2, layers=1, head_dim=4, triangular=True, frame=True)
        model = transformer_flow(key, n_atoms=5, data=structures(100), size=size, dtype=jnp.float64)
    else:
        size = BinnedSize(channels=8, layers=1, head_dim=4, bins=10, reach=3.0, waves=2, frame=True)
        model = binned_autoregressive(key, n_atoms=5, data=structures(100), size=size, dtype=jnp.float64)
    model = jax.tree.map(
        lambda leaf: leaf + 0.1 * jax.random.normal(key, leaf.shape, leaf.dtype) if leaf.ndim == 3 else leaf,
        model,
        is_leaf=eqx.is_array,
    )
    x, log_prob = eqx.filter_jit(lambda m, key: m.sample_and_log_prob(key))(model, key)
    np.testing.assert_allclose(model.log_prob(x), log_prob, atol=1e-8)
    placed = RigidAugmentation(model.centre_scale)(key, x)
    shift = np.sum(np.asarray(x).mean(0) ** 2) - np.sum(np.asarray(placed).mean(0) ** 2)
    np.testing.assert_allclose(
        model.log_prob(placed) - log_prob, 0.5 * shift / float(model.centre_scale) ** 2, atol=1e-7
    )


def test_order_keeps_bonded_atoms_together():
    """Every atom after the frame must follow one that it is bonded to, the hydrogens of an atom at once after it; rings and
    branches must not lose or repeat atoms."""
    # capped alanine: ACE (0-5), ALA (6-15), NME (16-21), as in PDB files
    bonds = [(4, 0), (0, 1), (0, 2), (0, 3), (4, 5), (4, 6), (6, 7), (6, 8), (8, 9), (8, 10), (8, 12), (10, 11)]
    bonds += [(10, 16), (12, 13), (12, 14), (12, 15), (16, 17), (16, 18), (18, 19), (18, 20), (18, 21)]
    heavy = {0: 12, 4: 12, 5: 16, 6: 14, 8: 12, 10: 12, 11: 16, 12: 12, 16: 14, 18: 12}
    order = depth_first_order(bonds, [heavy.get(atom, 1) for atom in range(22)])
    assert order[:3] == (8, 6, 10)
    assert sorted(order) == list(range(22))
    place = {atom: index for index, atom in enumerate(order)}
    for atom in order[3:]:
        assert any(place[a + b - atom] < place[atom] for a, b in bonds if atom in (a, b))
    for carbon, hydrogens in {12: (13, 14, 15), 18: (19, 20, 21), 0: (1, 2, 3)}.items():
        assert [place[h] - place[carbon] for h in hydrogens] == [1, 2, 3]
    ring = [(k, (k + 1) % 6) for k in range(6)] + [(0, 6)]
    assert sorted(depth_first_order(ring, [12] * 7)) == list(range(7))


def test_impossible_frames_are_refused():
    """Three atoms on a line span no frame: their shapes would be infinite."""
    line = np.array([[0.0, 0, 0], [0.1, 0, 0], [0.2, 0, 0], [0.1, 0.1, 0.1]])
    with pytest.raises(InvalidArgumentError, match="line"):
        framed_generator(Normal(jnp.zeros(6), 1.0), n_atoms=4, data=line)
    with pytest.raises(InvalidArgumentError, match="fourth"):
        framed_generator(Normal(jnp.zeros(3), 1.0), n_atoms=3)
