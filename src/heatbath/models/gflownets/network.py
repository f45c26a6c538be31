"""What a generative flow network learns: a policy forward, one back, a flow through every state, and potentials of edges."""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from heatbath.errors import InvalidArgumentError
from heatbath.models.gflownets import noted
from heatbath.models.gflownets.environment import Environment


class Heads(NamedTuple):
    """What a network says of one state: log policies over labels, the log flow, and a potential for every action."""

    log_forward: Float[Array, "*batch actions"]
    log_back: Float[Array, "*batch ways"]
    log_flow: Float[Array, "*batch"]
    potential: Float[Array, "*batch actions"]


class StateMemory(eqx.Module):
    """``table`` (rows, out) of numbers, zero at first, and the row of a state: its own where the environment numbers its states
    and there are rows enough (``factors`` empty), else by multiplicative hashing, so that some share one.

    A perceptron learns what states have in common; what distinguishes one of thousands, such as a mode drawn by lot, goes here.
    States that share a row keep each other from the exact law: at two states for three rows, about half of them do.
    """

    table: Float[Array, "rows out"]
    factors: tuple[int, ...] = eqx.field(static=True)

    @staticmethod
    def create(rows: int, out: int, environment: Environment) -> "StateMemory":
        """An empty memory for the states of an environment. Raises ``InvalidArgumentError`` unless ``rows`` is a power of two."""
        if rows < 2 or rows & (rows - 1):
            raise InvalidArgumentError(f"a memory has a power of two of rows; found {rows}")
        table = jnp.zeros((rows, out), jnp.float32)
        if 1 < environment.places <= rows:
            return StateMemory(table, ())
        size = environment.initial().shape[0]
        factors = np.random.default_rng(1).integers(0, 2**32, size=size, dtype=np.uint64) | 1
        return StateMemory(table, tuple(int(factor) for factor in factors))

    def row(self, environment: Environment, state: Int[Array, " k"]) -> Int[Array, ""]:
        """The row of a state."""
        if not self.factors:
            return environment.place(state)
        mixed = jnp.sum(state.astype(jnp.uint32) * jnp.asarray(self.factors, jnp.uint32), dtype=jnp.uint32)
        mixed = (mixed ^ (mixed >> 15)) * jnp.uint32(2246822519)
        return (mixed >> (33 - self.table.shape[0].bit_length())).astype(jnp.int32)

    def __call__(self, environment: Environment, state: Int[Array, " k"]) -> Float[Array, " out"]:
        return self.table[self.row(environment, state)]


class GFlowNet(eqx.Module):
    """A network over an ``environment``.

    body:        state features -> logits of actions, logits of ways back, log flow.
    potentials:  state features -> a potential of every action (used by learned energy decompositions), trained apart from
    ``body``.
    log_z:       log of the flow out of the initial state, learned by trajectory balance; other losses use the flow of ``body``
    there. learned_back: whether the policy back is learned; uniform over the edges that lead to a state otherwise.
    memory:      numbers of single states that are added to what ``body`` says, for rewards without any pattern in them; None:
    nothing but the perceptrons. potential_memory: the same for ``potentials``.
    """

    environment: Environment
    body: eqx.nn.MLP
    potentials: eqx.nn.MLP
    log_z: Float[Array, ""]
    learned_back: bool = eqx.field(static=True, default=False)
    memory: "StateMemory | None" = None
    potential_memory: "StateMemory | None" = None

    @staticmethod
    def create(
        key: Key[Array, ""],
        environment: Environment,
        *,
        width: int = 64,
        depth: int = 2,
        learned_back: bool = False,
        log_z: float = 0.0,
        memory_rows: int = 0,
    ) -> "GFlowNet":
        """Perceptrons of ``depth`` hidden layers, ``width`` wide, in float32; ``log_z`` is a first guess; ``memory_rows`` a power
        of two, or 0 for no memory of single states.
        """
        size = int(environment.features(environment.initial()).shape[0])
        out = environment.actions + environment.ways_back + 1
        key_body, key_potentials = jax.random.split(key)
        options = {"width_size": width, "depth": depth, "activation": jax.nn.leaky_relu, "dtype": jnp.float32}
        body = eqx.nn.MLP(size, out, key=key_body, **options)
        potentials = eqx.nn.MLP(size, environment.actions, key=key_potentials, **options)
        log_z_array, memories = jnp.asarray(log_z, jnp.float32), [None, None]
        if memory_rows:
            memories = [StateMemory.create(memory_rows, size, environment) for size in (out, environment.actions)]
        return GFlowNet(environment, body, potentials, log_z_array, learned_back, *memories)

    def noted_heads(self, state: Int[Array, " k"]) -> tuple[Heads, noted.Layers]:
        """Everything about one state, and the layers of ``body`` there."""
        layers = noted.layers(self.body, self.environment.features(state))
        return self.heads(state, noted.last(self.body, layers)), layers

    def said(self, states: Int[Array, "n k"], layers: noted.Layers) -> Float[Array, "n out"]:
        """What ``body`` says of many states where its layers were noted; with its gradient."""
        return noted.said(self.body, jax.vmap(self.environment.features)(states), layers)

    def heads(self, state: Int[Array, " k"], said: Float[Array, " out"] | None = None) -> Heads:
        """Everything about one state. Labels that are not allowed have log probability -inf. ``said``: what ``body`` says."""
        env, features = self.environment, self.environment.features(state)
        out = self.body(features) if said is None else said
        out = out if self.memory is None else out + self.memory(env, state)
        potential = self.potentials(features)
        if self.potential_memory is not None:
            potential = potential + self.potential_memory(env, state)
        forward, back = out[: env.actions], out[env.actions : -1]
        ways = env.allowed_back(state)
        back = back if self.learned_back else jnp.zeros_like(back)
        return Heads(
            masked_log_softmax(forward, env.allowed(state)),
            masked_log_softmax(back, ways),
            out[-1],
            potential,
        )


def log_even_back(environment: Environment, state: Int[Array, " k"], way: Int[Array, ""]) -> Float[Array, ""]:
    """Log probability of one way back from a state by the even policy over all that are allowed."""
    return masked_log_softmax(jnp.zeros(environment.ways_back), environment.allowed_back(state))[way]


def masked_log_softmax(logits: Float[Array, "*batch n"], allowed: Bool[Array, "*batch n"]) -> Float[Array, "*batch n"]:
    """Log softmax over the allowed entries, -inf elsewhere; all -inf where none is allowed. Gradients stay finite."""
    safe = jnp.where(allowed, logits, -1e9)
    safe = safe - jax.nn.logsumexp(safe, axis=-1, keepdims=True)
    return jnp.where(allowed, safe, -jnp.inf)
