"""Flow matching along trajectories: detailed, trajectory and sub-trajectory balance, with energies decomposed over the steps.

With the flow F(s) = F~(s) exp(sum of phi up to s) all of them ask for

    log F~(s) + log P_F(s'|s) - phi(s -> s') = log F~(s') + log P_B(s|s'),

which has the right policy as its solution for any phi whose sum along a path depends on its end alone and is log R(x) there,
with the boundary F~(x) = 1. phi = 0 and F~(x) = R(x) are the undecomposed losses; phi = log R(s') - log R(s) is
forward-looking and needs the energy of unfinished objects; learned potentials need one energy per trajectory.
Sources: Bengio et al., arXiv 2111.09266 (detailed balance); Malkin et al., arXiv 2201.13259 (trajectory balance); Madan et
al., arXiv 2209.12782 (sub-trajectories); Pan et al., arXiv 2302.01687 (forward-looking); Jang et al., arXiv 2310.03301
(learned potentials).
"""

from collections.abc import Callable
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key, PyTree

from heatbath.errors import InvalidArgumentError
from heatbath.models.gflownets.rollout import Trajectory, backward, finished_configuration, forward
from heatbath.training.objectives.base import Objective


class FlowBalance(Objective):
    """The balance of flows over ``draws`` trajectories of the current policy, and as many backward ones as the batch has objects.

    u:             reduced energy of a finished configuration; log R = -u.
    draws:         trajectories drawn per step; a step with probability ``exploration`` takes any allowed action.
    balance:       "db" every edge, "tb" whole trajectories with a learned log Z, "subtb" all parts, weighted ``decay``^length.
    decomposition: "none"; "forward-looking" with ``partial_u``, the reduced energy of any state, 0 at the initial one; "learned".
    dropout:       chance that a step is left out of the loss of the potentials, which evens them out along a path.
    correct:       spread what the potentials of a path lack to log R evenly over its steps before they are used.

    ``batch``: None, or finished states (n, k) whose trajectories are drawn from the policy back (replay). Their energies are
    not counted.
    """

    u: Callable[[Array], Any]
    draws: int = eqx.field(static=True, default=32)
    exploration: float = 0.1
    balance: Literal["db", "tb", "subtb"] = eqx.field(static=True, default="db")
    decomposition: Literal["none", "forward-looking", "learned"] = eqx.field(static=True, default="none")
    partial_u: Callable[[Array], Any] | None = None
    decay: float = 0.9
    dropout: float = 0.1
    correct: bool = eqx.field(static=True, default=True)
    potential_weight: float = 1.0

    def __check_init__(self):
        if self.draws < 1 or self.balance not in ("db", "tb", "subtb"):
            raise InvalidArgumentError(
                f"draws is positive, balance 'db', 'tb' or 'subtb'; found {self.draws}, {self.balance!r}"
            )
        if self.decomposition not in ("none", "forward-looking", "learned"):
            raise InvalidArgumentError(
                f"unknown decomposition {self.decomposition!r}; know none, forward-looking, learned"
            )
        if (self.decomposition == "forward-looking") != (self.partial_u is not None):
            raise InvalidArgumentError(
                "partial_u, the energy of unfinished objects, belongs to the forward-looking decomposition"
            )

    def __call__(self, key: Key[Array, ""], model: PyTree, batch: Any) -> tuple[Array, dict[str, Array]]:
        key_draw, key_back, key_loss = jax.random.split(key, 3)
        fixed = jax.tree.map(lambda leaf: jax.lax.stop_gradient(leaf) if eqx.is_inexact_array(leaf) else leaf, model)
        paths = jax.vmap(lambda k: forward(k, fixed, self.exploration))(jax.random.split(key_draw, self.draws))
        if batch is not None:
            keys = jax.random.split(key_back, batch.shape[0])
            replayed = jax.vmap(lambda k, state: backward(k, fixed, state))(keys, batch)
            paths = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), paths, replayed)
        keys = jax.random.split(key_loss, paths.valid.shape[0])
        flow, potential, metrics = jax.vmap(lambda k, path: self.of_path(k, model, path))(keys, paths)
        steps = jnp.mean(jnp.sum(paths.valid, axis=1).astype(flow.dtype))
        flow = jnp.mean(flow) / (steps if self.balance == "db" else 1.0)
        metrics = jax.tree.map(jnp.mean, metrics) | {"flow_loss": flow}
        return flow + self.potential_weight * jnp.mean(potential), metrics

    def energies(self, env: Any, path: Trajectory) -> Float[Array, " t1"]:
        """Reduced energies along one trajectory: of every state where the loss looks ahead, else of the object at its end alone
        (zeros before it). The first is never asked for; it is 0.
        """
        if self.decomposition == "forward-looking":
            assert self.partial_u is not None
            return jax.vmap(self.partial_u)(path.states).at[0].set(0.0)
        last = jnp.asarray(self.u(finished_configuration(env, path)))
        return jnp.zeros(path.valid.shape[0] + 1, last.dtype).at[-1].set(last)

    def of_path(
        self, key: Key[Array, ""], model: PyTree, path: Trajectory, energies: Float[Array, " t1"] | None = None
    ) -> tuple[Float[Array, ""], Float[Array, ""], dict[str, Array]]:
        """Loss of the flows and of the potentials on one trajectory; that of detailed balance is a sum over its steps.

        ``energies`` as ``self.energies`` gives them; remembered ones cost nothing.
        """
        energies = self.energies(model.environment, path) if energies is None else energies
        said = jax.vmap(lambda *values: self.of_state(model, *values))(path.states, *labels(path))
        return self.of_numbers(key, model.log_z, said, path, energies)

    def of_state(
        self, model: PyTree, state: Int[Array, " k"], action: Int[Array, ""], way: Int[Array, ""], *said: Array
    ) -> Float[Array, " 4"]:
        """All that a loss wants to know of one state: log probability of the action taken from it, and of the way back to where
        it was reached from, its log flow, and the potential of the action. ``said``: for ``model.heads``, where it is known.
        """
        heads = model.heads(state, *said)
        # Potentials that nobody uses are left out here, since their gradients of zero would cost as much as any.
        potential = heads.potential[action] if self.decomposition == "learned" else jnp.zeros_like(heads.log_flow)
        return jnp.stack([heads.log_forward[action], heads.log_back[way], heads.log_flow, potential])

    def of_numbers(
        self,
        key: Key[Array, ""],
        log_z: Float[Array, ""],
        said: Float[Array, "t1 4"],
        path: Trajectory,
        energies: Float[Array, " t1"],
        paid: Bool[Array, ""] | bool = True,  # noqa: FBT001, FBT002
    ) -> tuple[Float[Array, ""], Float[Array, ""], dict[str, Array]]:
        """``of_path`` from the numbers of ``of_state``. Where the energy was not ``paid``, potentials stand for it as they are,
        and only the loss of the flows means anything.
        """
        log_pf = jnp.where(path.valid, said[:-1, 0], 0.0)
        log_pb = jnp.where(path.valid, said[1:, 1], 0.0)
        log_flow, potential = said[:, 2], said[:-1, 3]
        count = jnp.sum(path.valid)
        energies = jnp.asarray(energies, log_pf.dtype)
        log_reward = -energies[-1]
        learned = jnp.where(path.valid, potential, 0.0)
        phi = self._phi(jax.lax.stop_gradient(learned), path, energies, count, paid)
        end = log_reward if self.decomposition == "none" else jnp.zeros_like(log_reward)
        flows = jnp.where(jnp.arange(path.valid.shape[0] + 1) < count, log_flow, end)
        loss = self._balance(log_z, flows, log_pf - phi - log_pb, path, end)
        metrics = {"log_reward": log_reward, "length": count.astype(log_pf.dtype)}
        if self.decomposition != "learned":
            return loss, jnp.zeros_like(loss), metrics
        metrics |= {"residual": jnp.abs(log_reward - jnp.sum(learned)) / jnp.maximum(jnp.abs(log_reward), 1e-6)}
        return loss, self._potential_loss(key, learned, path, log_reward, count), metrics

    def _phi(self, learned: Array, path: Trajectory, energies: Array, count: Array, paid: Any) -> Array:
        if self.decomposition == "none":
            return jnp.zeros_like(learned)
        if self.decomposition == "learned":
            lacking = (-energies[-1] - jnp.sum(learned)) / count if self.correct else 0.0
            return jnp.where(path.valid, learned + jnp.where(paid, lacking, 0.0), 0.0)
        return jnp.where(path.valid, energies[:-1] - energies[1:], 0.0)

    def _balance(self, log_z: Array, flows: Array, gains: Array, path: Trajectory, end: Array) -> Array:
        """``gains``: log P_F - phi - log P_B of every step."""
        if self.balance == "tb":
            return (log_z + jnp.sum(gains) - end) ** 2
        if self.balance == "db":
            return jnp.sum(jnp.where(path.valid, (flows[:-1] + gains - flows[1:]) ** 2, 0.0))
        sums = jnp.concatenate([jnp.zeros(1, gains.dtype), jnp.cumsum(gains)])
        height = flows - sums  # of a part from i to j: flows_i + sums_j - sums_i - flows_j
        place = jnp.arange(len(flows))
        length = place[None, :] - place[:, None]
        inside = (length > 0) & (place[None, :] <= jnp.sum(path.valid))
        weights = jnp.where(inside, self.decay ** jnp.maximum(length, 0), 0.0).astype(gains.dtype)
        return jnp.sum(weights * (height[:, None] - height[None, :]) ** 2) / jnp.sum(weights)

    def _potential_loss(self, key: Array, learned: Array, path: Trajectory, log_reward: Array, count: Array) -> Array:
        """(T sum z phi / sum z - log R)^2 with z the steps that are kept (all, should none be)."""
        kept = path.valid & jax.random.bernoulli(key, 1 - self.dropout, path.valid.shape)
        kept = jnp.where(jnp.any(kept), kept, path.valid)
        estimate = count * jnp.sum(jnp.where(kept, learned, 0.0)) / jnp.sum(kept)
        return (estimate - log_reward) ** 2

    def evaluations(self, batch_size: int) -> int:
        """One energy per drawn trajectory; forward-looking needs that of every state (longest path)."""
        if self.decomposition != "forward-looking":
            return self.draws
        longest = getattr(getattr(self.partial_u, "environment", None), "longest", 1)
        return self.draws * longest


def labels(path: Trajectory) -> tuple[Int[Array, "*batch t1"], Int[Array, "*batch t1"]]:
    """For every state of trajectories, the action taken from it and the way back by which it is left; 0 where there is none."""
    nothing = jnp.zeros_like(path.actions[..., :1])
    return jnp.concatenate([path.actions, nothing], axis=-1), jnp.concatenate([nothing, path.ways], axis=-1)
