"""Warm-up: heating, step sizes by stochastic approximation, spacing of a temperature ladder. Frozen before production.

Warm-up goes through phases measured in its own length: at first every rung has the temperature of the hottest, so that walkers
forget where they started; then each cools to its own; then step sizes and spacing settle; the last part averages the
logarithms of the step sizes, which are what production uses. Nothing adapts afterwards, so production is a Markov chain.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

#: Ends of the phases as fractions of the warm-up: heating, cooling, moving of the ladder, settling before averages count.
HEATED, COOLED, SPACED, SETTLED = 0.15, 0.4, 0.85, 0.7


def heated_betas(betas: Float[Array, " rung"], fraction: Float[Array, ""]) -> Float[Array, " rung"]:
    """The inverse temperatures at a ``fraction`` of the warm-up: all hottest, then cooling geometrically to ``betas``."""
    share = jnp.clip((fraction - HEATED) / (COOLED - HEATED), 0.0, 1.0).astype(betas.dtype)
    return jnp.exp((1 - share) * jnp.log(betas[-1]) + share * jnp.log(betas))


def adapted_log_step(
    log_step: Float[Array, "*walker"],
    acceptance: Float[Array, "*walker"],
    target: float,
    count: Int[Array, ""],
) -> Float[Array, "*walker"]:
    """One Robbins-Monro step: log e += g_n (acceptance - target) with g_n = 1/2 (1 + n/10)^(-0.6).

    The logarithm keeps e positive and the gain, being bounded, lets no single bad trajectory throw it far; an acceptance that
    is not finite counts as zero. Source: Robbins & Monro 1951; Andrieu & Thoms, Stat. Comput. 18, 343 (2008).
    """
    gain = 0.5 * (1 + count / 10) ** -0.6
    acceptance = jnp.where(jnp.isfinite(acceptance), acceptance, 0.0)
    return log_step + (gain * (acceptance - target)).astype(log_step.dtype)


def averaged(mean: Array, value: Array, index: Int[Array, ""], start: int) -> Array:
    """Running mean of ``value`` over the rounds from ``start`` on; before that the newest value."""
    count = jnp.maximum(index - start, 0) + 1
    return jnp.where(index <= start, value, mean + (value - mean) / count.astype(value.dtype))


def respaced(betas: Float[Array, " rung"], acceptance: Float[Array, " pair"]) -> Float[Array, " rung"]:
    """Inverse temperatures at which all neighbouring pairs would exchange equally often; the ends stay.

    The summed rejection rate from the cold end is a barrier that grows along the ladder; rungs are placed at equal shares
    of it, interpolating in log beta, and moved half way there. Source: Syed, Bouchard-Cote, Deligiannidis & Doucet,
    J. R. Stat. Soc. B 84, 321 (2022), section 5.
    """
    rejection = jnp.clip(1 - acceptance, 0.02, 1.0)
    barrier = jnp.concatenate([jnp.zeros(1, rejection.dtype), jnp.cumsum(rejection)])
    logs = jnp.log(betas)
    even = jnp.interp(jnp.linspace(0.0, 1.0, len(betas)), barrier / barrier[-1], logs)
    moved = jnp.exp(0.5 * (logs + even.astype(logs.dtype)))
    return moved.at[0].set(betas[0]).at[-1].set(betas[-1])


def geometric_ladder(beta: float, hottest_beta: float, rungs: int) -> list[float]:
    """``rungs`` inverse temperatures from ``beta`` down to ``hottest_beta``, in equal ratios."""
    if rungs == 1:
        return [beta]
    ratio = hottest_beta / beta
    return [beta * ratio ** (index / (rungs - 1)) for index in range(rungs)]
