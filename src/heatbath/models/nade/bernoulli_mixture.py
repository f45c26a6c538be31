"""A mixture of products of coins, by expectation maximisation: the control that shows whether units and splits are right."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from heatbath.errors import InvalidArgumentError
from heatbath.models.base import Distribution


class BernoulliMixture(Distribution):
    """p(x) = sum_k w_k prod_i p_ki^x_i (1 - p_ki)^(1 - x_i) over {0, 1}^d; ``log_weights`` (k,) need not be normalised."""

    log_weights: Float[Array, " k"]
    logits: Float[Array, "k d"]

    def sample(self, key):
        key_choice, key_draw = jax.random.split(key)
        # one uniform and a search: a Gumbel per component would cost more than the bits
        shares = jnp.cumsum(jax.nn.softmax(self.log_weights))
        place = jax.random.uniform(key_choice, dtype=shares.dtype) * shares[-1]
        choice = jnp.minimum(jnp.searchsorted(shares, place, side="right"), len(shares) - 1)
        uniform = jax.random.uniform(key_draw, self.logits.shape[1:], self.logits.dtype)
        return (uniform < jax.nn.sigmoid(self.logits[choice])).astype(jnp.int32)

    def log_prob(self, x):
        # log p(0) once for all x, and a product with the bits: a batch costs one matrix product
        parts = jnp.sum(jax.nn.log_sigmoid(-self.logits), axis=1) + self.logits @ x.astype(self.logits.dtype)
        return jax.nn.logsumexp(jax.nn.log_softmax(self.log_weights) + parts)


@dataclasses.dataclass(frozen=True)
class MixtureFit:
    """What expectation maximisation left: the model of the best iteration, and mean log likelihoods on the way.

    ``train`` has one number per iteration and falls by no more than the prior allows; ``valid`` is empty without held-out data.
    """

    model: BernoulliMixture
    train: np.ndarray
    valid: np.ndarray


def fit_bernoulli_mixture(
    data,
    components: int,
    *,
    seed: int = 0,
    iterations: int = 100,
    prior: float = 0.1,
    held_out=None,
    patience: int = 10,
) -> MixtureFit:
    """Expectation maximisation from responsibilities drawn at random, with ``prior`` pseudo-counts of a one and of a zero.

    ``data`` (n, d) of zeros and ones. With ``held_out`` (m, d), stops after ``patience`` iterations without improvement of its
    likelihood and returns the best model. Runs in NumPy. Raises ``InvalidArgumentError`` when data are not binary or no mixture
    fits their number.
    """
    x = np.asarray(data, dtype=np.float64)
    if x.ndim != 2 or not len(x) or not np.isin(x, (0.0, 1.0)).all():
        raise InvalidArgumentError(f"expected a table (n, d) of zeros and ones; found shape {x.shape}")
    if not 1 <= components <= len(x) or iterations < 1 or prior <= 0:
        raise InvalidArgumentError(
            f"expected 1 to {len(x)} components, an iteration and a positive prior; found {components}, {iterations}, {prior}"
        )
    rng = np.random.default_rng(seed)
    held = None if held_out is None else np.asarray(held_out, dtype=np.float64)
    # A start near single data rows, softened: components differ from the first iteration on.
    rows = x[rng.choice(len(x), components, replace=False)]
    p = 0.25 + 0.25 * rows + 0.25 * rng.random(rows.shape)
    weights = np.full(components, 1 / components)
    train, valid, best, best_at = [], [], (weights, p), 0
    for step in range(iterations):
        log_parts = _log_parts(x, weights, p)
        total = np.logaddexp.reduce(log_parts, axis=1)
        train.append(float(total.mean()))
        if held is not None:
            valid.append(float(np.logaddexp.reduce(_log_parts(held, weights, p), axis=1).mean()))
            if valid[-1] >= max(valid):
                best, best_at = (weights, p), step
            if step - best_at >= patience:
                break
        else:
            best = (weights, p)
        shares = np.exp(log_parts - total[:, None])
        counts = shares.sum(axis=0)
        weights = (counts + prior) / (counts + prior).sum()
        p = (shares.T @ x + prior) / (counts[:, None] + 2 * prior)
    weights, p = best
    model = BernoulliMixture(jnp.asarray(np.log(weights)), jnp.asarray(np.log(p) - np.log1p(-p)))
    return MixtureFit(model, np.array(train), np.array(valid))


def _log_parts(x: np.ndarray, weights: np.ndarray, p: np.ndarray) -> np.ndarray:
    """log of w_k p_k(x_n), (n, k)."""
    return np.log(weights) + x @ (np.log(p) - np.log1p(-p)).T + np.log1p(-p).sum(axis=1)
