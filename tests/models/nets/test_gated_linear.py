"""Gated linear experts begin as the exact field of a mixture of normals, and learn what is added to it."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from heatbath.errors import InvalidArgumentError
from heatbath.models.interpolants import Diffusion, Straight
from heatbath.models.nets.gated_linear import FixedAxes, GatedLinearVelocity
from heatbath.training.trainable import trainable

CENTRES = np.array([[-1.0, 0.2, 0.0], [0.8, 0.0, -0.3]])
VARIANCES = np.array([[0.05, 0.4, 1.5], [0.7, 0.1, 0.3]])
AXES = np.linalg.qr(np.random.default_rng(0).standard_normal((3, 3)))[0]


def net_along(interpolant, **options):
    net = GatedLinearVelocity.create(
        jax.random.key(0), 3, gate_width=4, features=8, interpolant=interpolant, dtype=jnp.float64, **options
    )
    return net.along(AXES, VARIANCES, CENTRES)


def exact_prediction(interpolant, x, t):
    """E[a y + b z | y_t = x] for data from the two normals with equal weights, by conditioning of joint normals in NumPy."""
    (signal, noise), (a, b) = interpolant.place(t), interpolant.target(t)
    signal, noise, a, b = (float(v) for v in (signal, noise, a, b))
    logs, values = [], []
    for variances, centre in zip(VARIANCES, CENTRES, strict=True):
        covariance = AXES @ np.diag(variances) @ AXES.T
        widened = signal**2 * covariance + noise**2 * np.eye(3)
        away = np.linalg.solve(widened, x - signal * centre)
        logs.append(-0.5 * (x - signal * centre) @ away - 0.5 * np.linalg.slogdet(widened)[1])
        values.append(a * (centre + signal * covariance @ away) + b * noise * away)
    shares = np.exp(np.array(logs) - np.max(logs))
    return shares @ np.array(values) / shares.sum()


@pytest.mark.parametrize("interpolant", [Straight(), Diffusion()])
def test_the_start_is_the_field_of_two_normals(interpolant):
    """A wrong gate, rate or place of the centre would start a flow that draws another mixture."""
    net = eqx.filter_jit(net_along(interpolant))
    for t in (0.1, 0.6, 0.95):
        for x in np.random.default_rng(1).standard_normal((3, 3)):
            found = net(jnp.asarray(x), jnp.asarray(t))
            np.testing.assert_allclose(found, exact_prediction(interpolant, x, t), atol=1e-12)


def test_training_leaves_fixed_axes_alone_and_moves_the_rest():
    """Axes from a million draws must not be worn away by gradient noise; free ones must be trained."""
    fixed, free = net_along(Diffusion()), GatedLinearVelocity.create(jax.random.key(0), 3, gate_width=4, features=8)
    assert isinstance(fixed.axes, FixedAxes)
    assert not jax.tree.leaves(eqx.filter(fixed, trainable(fixed)).axes)
    assert len(jax.tree.leaves(eqx.filter(free, trainable(free)).axes)) == 3
    gradient = eqx.filter_jit(
        eqx.filter_grad(lambda n: jnp.sum(n(jnp.array([0.2, -1.0, 0.5]), jnp.asarray(0.4)) ** 2))
    )(fixed)
    for part in ("rates", "curvatures", "shifts", "gate", "skip"):
        leaves = jax.tree.leaves(getattr(gradient, part))
        assert any(np.abs(np.asarray(leaf)).max() > 0 for leaf in leaves), part


def test_axes_of_another_size_are_refused():
    """Three clusters for two experts."""
    net = GatedLinearVelocity.create(jax.random.key(0), 3, gate_width=4, features=8)
    with pytest.raises(InvalidArgumentError, match="expected axes"):
        net.along(np.eye(3), np.ones((3, 3)), np.zeros((3, 3)))
