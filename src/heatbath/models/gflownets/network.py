"""What a generative flow network learns: a policy forward, one back, a flow through every state, and potentials of edges."""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from heatbath.models.gflownets.environment import Environment


class Heads(NamedTuple):
    """What a network says of one state: log policies over labels, the log flow, and a potential for every action."""

    log_forward: Float[Array, "*batch actions"]
    log_back: Float[Array, "*batch ways"]
    log_flow: Float[Array, "*batch"]
    potential: Float[Array, "*batch actions"]


class GFlowNet(eqx.Module):
    """A network over an ``environment``.

    body:        state features -> logits of actions, logits of ways back, log flow.
    potentials:  state features -> a potential of every action (used by learned energy decompositions), trained apart from
    ``body``.
    log_z:       log of the flow out of the initial state, learned by trajectory balance; other losses use the flow of ``body``
    there. learned_back: whether the policy back is learned; uniform over the edges that lead to a state otherwise.
    """

    environment: Environment
    body: eqx.nn.MLP
    potentials: eqx.nn.MLP
    log_z: Float[Array, ""]
    learned_back: bool = eqx.field(static=True, default=False)

    @staticmethod
    def create(
        key: Key[Array, ""],
        environment: Environment,
        *,
        width: int = 64,
        depth: int = 2,
        learned_back: bool = False,
        log_z: float = 0.0,
    ) -> "GFlowNet":
        """Perceptrons of ``depth`` hidden layers, ``width`` wide, in float32; ``log_z`` is a first guess."""
        size = int(environment.features(environment.initial()).shape[0])
        out = environment.actions + environment.ways_back + 1
        key_body, key_potentials = jax.random.split(key)
        options = {"width_size": width, "depth": depth, "activation": jax.nn.leaky_relu, "dtype": jnp.float32}
        body = eqx.nn.MLP(size, out, key=key_body, **options)
        potentials = eqx.nn.MLP(size, environment.actions, key=key_potentials, **options)
        return GFlowNet(environment, body, potentials, jnp.asarray(log_z, jnp.float32), learned_back)

    def heads(self, state: Int[Array, " k"]) -> Heads:
        """Everything about one state. Labels that are not allowed have log probability -inf."""
        env, features = self.environment, self.environment.features(state)
        out = self.body(features)
        forward, back = out[: env.actions], out[env.actions : -1]
        ways = env.allowed_back(state)
        back = back if self.learned_back else jnp.zeros_like(back)
        return Heads(
            masked_log_softmax(forward, env.allowed(state)),
            masked_log_softmax(back, ways),
            out[-1],
            self.potentials(features),
        )


def masked_log_softmax(logits: Float[Array, "*batch n"], allowed: Bool[Array, "*batch n"]) -> Float[Array, "*batch n"]:
    """Log softmax over the allowed entries, -inf elsewhere; all -inf where none is allowed. Gradients stay finite."""
    safe = jnp.where(allowed, logits, -1e9)
    safe = safe - jax.nn.logsumexp(safe, axis=-1, keepdims=True)
    return jnp.where(allowed, safe, -jnp.inf)
