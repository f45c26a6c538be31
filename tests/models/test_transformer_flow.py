"""The causal transformer flow: inverse, log determinant, causality, cached draws, size of the program, law of the centre."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from heatbath.errors import InvalidArgumentError
from heatbath.models.nets.transformer import CausalTransformer, parameter_count
from heatbath.models.transformer_flow import SIZES, TransformerFlowSize, transformer_flow, vector_flow

SMALL = TransformerFlowSize(channels=16, blocks=3, layers=2, head_dim=8)


def disturbed(model, key, size=0.1):
    """The model with every trainable matrix off its start, so that alpha and mu are not zero."""
    arrays, rest = eqx.partition(model, eqx.is_inexact_array)
    leaves, tree = jax.tree.flatten(arrays)
    keys = jax.random.split(key, len(leaves))
    leaves = [
        leaf + size * jax.random.normal(k, leaf.shape, leaf.dtype) if leaf.ndim > 1 else leaf
        for k, leaf in zip(keys, leaves, strict=True)
    ]
    return eqx.combine(jax.tree.unflatten(tree, leaves), rest)


@pytest.fixture(scope="module")
def flow():
    """Four atoms as twelve scalar tokens, three blocks, float64, atoms in another order, a scale of 0.2 nm."""
    key = jax.random.key(3)
    data = 0.2 * np.random.default_rng(0).normal(size=(50, 4, 3))
    size = TransformerFlowSize("coordinates", channels=16, blocks=3, layers=2, head_dim=8)
    model = transformer_flow(key, n_atoms=4, data=data, size=size, order=[2, 0, 3, 1], dtype=jnp.float64)
    return disturbed(model, key)


@pytest.fixture(scope="module")
def draws(flow):
    """Eight draws of the flow and their log densities."""
    draw = eqx.filter_jit(lambda model, keys: jax.vmap(model.sample_and_log_prob)(keys))
    return draw(flow, jax.random.split(jax.random.key(1), 8))


def test_cached_draws_carry_the_density_of_one_pass(flow, draws):
    """Draws made token by token with remembered keys and values must have the density that ``log_prob`` gives: one wrong place
    in the memory, order of blocks or sign would bias every weight."""
    x, log_prob = draws
    assert (np.abs(np.asarray(x)).max(axis=(1, 2)) > 0.05).all()
    np.testing.assert_allclose(flow.log_probs(x), log_prob, rtol=0, atol=1e-9)
    assert np.std(log_prob) > 0.1


def test_a_batch_is_its_members(flow, draws):
    """The batched twin must be the vmapped single, values and gradients."""
    x, _ = draws

    def single(model, x):
        return jax.vmap(model.log_prob)(x).sum()

    def batched(model, x):
        return model.log_probs(x).sum()

    np.testing.assert_allclose(jax.vmap(flow.log_prob)(x), flow.log_probs(x), atol=1e-10)
    by_model = [eqx.filter_jit(eqx.filter_grad(f))(flow, x) for f in (single, batched)]
    by_x = [eqx.filter_jit(eqx.filter_grad(lambda x, f=f: f(flow, x)))(x) for f in (single, batched)]
    for one, other in (by_model, by_x):
        for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize(("dtype", "tolerance"), [(jnp.float32, 1e-4), (jnp.float64, 1e-10)])
def test_the_inverse_undoes_the_map(dtype, tolerance):
    """z -> x -> z must come back within rounding, with opposite log determinants."""
    key = jax.random.key(4)
    model = disturbed(vector_flow(key, tokens=7, channels=3, size=SMALL, dtype=dtype), key, 0.05)
    z = jax.random.normal(key, (7, 3), dtype)
    x, log_det = eqx.filter_jit(model.blocks.forward)(z)
    back, log_det_back = eqx.filter_jit(model.blocks.inverse)(x)
    assert x.dtype == dtype
    assert log_det.dtype == jnp.float64
    assert np.abs(x - z).max() > 0.1
    np.testing.assert_allclose(back, z, atol=tolerance)
    np.testing.assert_allclose(log_det, -log_det_back, atol=21 * tolerance)


def test_log_determinant_against_the_jacobian(flow, draws):
    """The sum of alpha must be log|det dz/dx| of the whole map, scale and atom order included."""
    x = draws[0][0]

    def to_latent(x):
        y, _ = flow._way.inverse(x)
        return flow.vector.blocks.inverse(y.reshape(-1, 1))[0].ravel()

    jacobian = jax.jit(jax.jacfwd(to_latent))(x).reshape(12, 12)
    normal = -0.5 * np.sum(to_latent(x) ** 2) - 6 * np.log(2 * np.pi)
    np.testing.assert_allclose(flow.log_prob(x), normal + np.linalg.slogdet(jacobian)[1], atol=1e-9)


def test_a_block_is_causal():
    """dz_i/dx_j must vanish for tokens j > i (j < i in reversed blocks) and for other channels of token i: otherwise the
    triangular log determinant is not the determinant. The lower triangle must not vanish: otherwise nothing is learned."""
    key = jax.random.key(5)
    model = disturbed(vector_flow(key, tokens=5, channels=2, size=SMALL, dtype=jnp.float64), key)
    arrays, rest = eqx.partition(model.blocks.layer, eqx.is_array)
    blocks = [eqx.combine(jax.tree.map(lambda leaf, b=b: leaf[b], arrays), rest) for b in range(3)]
    x = jax.random.normal(key, (5, 2))
    jacobian_of = jax.jit(jax.jacfwd(lambda block, x: block.inverse(x)[0], argnums=1))
    seen = set()
    for block in blocks:
        jacobian = np.moveaxis(np.asarray(jacobian_of(block, x)), 2, 1)  # token, token, channel, channel
        if bool(block.reverse):
            jacobian = jacobian[::-1, ::-1]
        seen.add(bool(block.reverse))
        for i in range(5):
            assert (jacobian[i, i + 1 :] == 0).all()
            assert jacobian[i, i, 0, 1] == jacobian[i, i, 1, 0] == 0
            assert (jacobian[i, :i] != 0).all()
    assert seen == {True, False}


def test_triangular_blocks_correlate_channels_exactly():
    """With a triangular M_i the Jacobian of a token is lower triangular in its channels; its determinant must still be counted
    right, and draws must carry the density of one pass."""
    key = jax.random.key(9)
    size = TransformerFlowSize(channels=16, blocks=2, layers=1, head_dim=8, triangular=True)
    model = disturbed(vector_flow(key, tokens=4, channels=3, size=size, dtype=jnp.float64), key)
    y, log_prob = eqx.filter_jit(lambda m, key: m.sample_and_log_prob(key))(model, key)
    np.testing.assert_allclose(model.log_prob(y), log_prob, atol=1e-10)
    x = y.reshape(4, 3)
    jacobian = np.asarray(jax.jit(jax.jacfwd(lambda x: model.blocks.inverse(x)[0]))(x)).reshape(12, 12)
    np.testing.assert_allclose(model.blocks.inverse(x)[1], np.linalg.slogdet(jacobian)[1], atol=1e-10)
    token = np.asarray(jax.jacfwd(lambda z: model.blocks.forward(z)[0])(x))[2, :, 2]
    assert np.abs(token[np.tril_indices(3, -1)]).min() > 1e-3


def test_two_tokens_integrate_to_one():
    """Quadrature of exp(log q) over two tokens of one number: a density that is not normalised has no weights."""
    key = jax.random.key(6)
    size = TransformerFlowSize(channels=8, blocks=3, layers=1, head_dim=4)
    model = disturbed(vector_flow(key, tokens=2, channels=1, size=size, dtype=jnp.float64), key, 0.15)
    axis = np.linspace(-12, 12, 1201)
    grid = jnp.asarray(np.stack(np.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 2))
    log_density = np.asarray(jax.jit(lambda g: jax.lax.map(model.log_prob, g, batch_size=20_000))(grid))
    normal = np.asarray(-0.5 * (grid**2).sum(1) - np.log(2 * np.pi))
    assert np.abs(log_density - normal)[np.abs(grid).max(axis=1) < 1].max() > 0.05
    np.testing.assert_allclose(np.exp(log_density).sum() * 0.02**2, 1.0, atol=1e-5)


def test_a_network_step_is_a_row_of_the_whole(key):
    """The transformer token by token must equal the transformer at once, for every row."""
    network = disturbed(
        CausalTransformer(key, tokens=6, inputs=2, outputs=3, channels=12, layers=3, head_dim=4, dtype=jnp.float64),
        key,
    )
    x = jax.random.normal(key, (6, 2))
    step = eqx.filter_jit(network.step)
    memory, rows = network.begin(), []
    for place in range(6):
        memory, row = step(memory, x[place], jnp.asarray(place))
        rows.append(row)
    np.testing.assert_allclose(np.stack(rows), network(x[None])[0], atol=1e-12)
    np.testing.assert_allclose(network(x[None, :4])[0], network(x[None])[0, :4], atol=1e-12)


def test_limited_alpha_is_limited_and_invertible():
    """The soft limit must bound every scale and keep the inverse exact."""
    key = jax.random.key(8)
    size = TransformerFlowSize(channels=8, blocks=1, layers=1, head_dim=4, alpha_limit=0.5)
    model = disturbed(vector_flow(key, tokens=4, channels=1, size=size, dtype=jnp.float64), key, 0.6)
    z = jax.random.normal(key, (4, 1))
    x, log_det = model.blocks.forward(z)
    np.testing.assert_allclose(model.blocks.inverse(x)[0], z, atol=1e-10)
    diagonal = np.log(np.abs(np.diag(np.asarray(jax.jacfwd(lambda z: model.blocks.forward(z)[0][:, 0])(z))[..., 0])))
    assert (np.abs(diagonal) <= 0.5).all()
    assert np.abs(diagonal).max() > 0.2
    np.testing.assert_allclose(log_det, diagonal.sum(), atol=1e-9)


def test_an_untrained_flow_is_the_scaled_normal(key):
    """Training starts at N(0, scale^2 I) with the scale of the centred data; the centre's law follows from it."""
    data = 0.15 * np.random.default_rng(1).normal(size=(4000, 5, 3)) + 3.0
    model = transformer_flow(key, n_atoms=5, data=data, size=SMALL)
    scale = float(np.std(data - data.mean(1, keepdims=True)))
    x = jnp.asarray(data[0] - 3.0)
    normal = -0.5 * np.sum((x / scale) ** 2) - 15 * np.log(scale * np.sqrt(2 * np.pi))
    np.testing.assert_allclose(model.log_prob(x), normal, atol=1e-5)
    np.testing.assert_allclose(model.centre_scale, scale / np.sqrt(5), rtol=1e-12)
    assert model.sample(key).dtype == jnp.float32


def test_the_program_does_not_grow_with_depth(key):
    """Blocks and layers are scanned: a model of eight blocks of six layers must compile as fast as one of two blocks of two."""

    def sizes(blocks, layers):
        size = TransformerFlowSize(channels=8, blocks=blocks, layers=layers, head_dim=4)
        model = vector_flow(key, tokens=4, channels=1, size=size)
        gradient = eqx.filter_grad(lambda m: m.log_probs(jnp.ones((2, 4), jnp.float32)).sum())
        return [
            str(
                jax.make_jaxpr(lambda a, f=f: f(eqx.combine(a, eqx.filter(model, eqx.is_array, inverse=True))))(
                    eqx.filter(model, eqx.is_array)
                )
            ).count("\n")
            for f in (lambda m: eqx.filter(gradient(m), eqx.is_array), lambda m: m.sample_and_log_prob(key))
        ]

    assert sizes(2, 2) == sizes(8, 6)


def test_sizes_of_the_literature():
    """Parameter counts of the paper's table (12.6, 28, 64, 113 million) and the bound of the small one."""
    atoms = {"alanine-dipeptide": 22, "tripeptide": 33, "hexapeptide": 63, "chignolin": 138, "two-cores": 22}
    millions = {"alanine-dipeptide": 12.6, "tripeptide": 28.0, "hexapeptide": 64.0, "chignolin": 113.0}
    for name, count in atoms.items():
        shapes = eqx.filter_eval_shape(
            lambda name=name, count=count: transformer_flow(jax.random.key(0), n_atoms=count, size=SIZES[name])
        )
        found = sum(leaf.size for leaf in jax.tree.leaves(shapes) if hasattr(leaf, "size")) / 1e6
        assert found < 2 if name == "two-cores" else abs(found / millions[name] - 1) < 0.02


def test_impossible_arguments_are_refused(key):
    """A repeated atom or a head that does not divide the width would fail far inside, or silently."""
    with pytest.raises(InvalidArgumentError, match="once"):
        transformer_flow(key, n_atoms=3, order=[0, 0, 1], size=SMALL)
    with pytest.raises(InvalidArgumentError, match="shape"):
        transformer_flow(key, n_atoms=3, data=np.zeros((5, 4, 3)), size=SMALL)
    with pytest.raises(InvalidArgumentError, match="multiple of head_dim"):
        transformer_flow(key, n_atoms=3, size=TransformerFlowSize(channels=10, head_dim=4))
    with pytest.raises(InvalidArgumentError, match="two tokens"):
        vector_flow(key, tokens=1, channels=3, size=SMALL)


def test_parameter_count_counts_what_training_changes(key):
    """The bound of two million is checked with it."""
    network = CausalTransformer(key, tokens=3, inputs=2, outputs=5, channels=8, layers=2, head_dim=4)
    layer = 8 * 24 + 24 + 8 * 8 + 8 + 2 * 8 * 32 + 32 + 8
    assert parameter_count(network) == 2 * 8 + 3 * 8 + 2 * layer + 8 * 5 + 5
