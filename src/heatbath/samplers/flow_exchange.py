"""Replica exchange with a temperature-steerable flow: jumps at every rung, and swaps that the flow carries over.

A steerable flow knows every rung of a ladder at once. It can propose configurations at each rung (``kernels.FlowProposal``), and
it can carry a configuration from one temperature to another before a swap, so that it arrives looking like one of that
temperature. Source: Dibak et al., arXiv 2108.01590 (jumps in parallel tempering); the carried swap is the move of
nonequilibrium replica exchange (Ballard & Jarzynski, PNAS 106, 12224 (2009)) with a learned map, as in learned replica
exchange (Invernizzi, Kraemer, Clementi & Noe, arXiv 2210.14104).
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from heatbath.errors import InvalidArgumentError
from heatbath.kernels.base import Kernel
from heatbath.kernels.combinators import Compose
from heatbath.kernels.flow_proposal import FlowProposal
from heatbath.models.steerable_flow import Steerable, normal_log_prob
from heatbath.samplers.exchange import Exchange, Offer, PlainExchange, partners
from heatbath.samplers.replica_exchange import ReplicaExchangeSampler
from heatbath.state import ThermoState
from heatbath.targets.base import Target


class FlowSwap(Exchange):
    """x_i -> f(sqrt(tau_j / tau_i) f^-1(x_i)) to rung j, and x_j the other way to rung i.

    Both carry fresh momenta y ~ N(0, tau I) of their rung along where the flow has them. The Jacobians of the two maps,
    (tau_j / tau_i)^(D/2) and its inverse, cancel for a volume-preserving f, which leaves the ratio

        exp[h_i(x_i, y_i) + h_j(x_j, y_j) - h_i(x_j', y_j') - h_j(x_i', y_i')],   h_i = u_i(x) + |y|^2 / (2 tau_i).

    For a perfect flow it is 1 however far apart the temperatures are. Costs one energy evaluation per rung and round. Only
    for flows whose ``exact`` is True: the Jacobians of others do not cancel.
    """

    flow: Steerable

    @property
    def evaluations(self) -> int:
        return 1

    def offer(self, key, target, ladder, positions, energies, parity):
        rungs = energies.shape[0]
        other = partners(rungs, parity)
        keys = jax.random.split(key, rungs)
        before, carried = jax.vmap(self._carry)(keys, positions, ladder.beta, ladder.beta[other])
        new = jax.tree.map(lambda leaf: leaf[other], carried)
        arrived = self._configuration(new)
        new_energies = jax.vmap(target.energy)(arrived)
        reduced = eqx.filter_vmap(_reduced)
        gain = reduced(ladder, positions, energies) - reduced(ladder, arrived, new_energies)
        gain = gain + self._kinetic(before, ladder.beta) - self._kinetic(new, ladder.beta)
        return Offer(
            positions=arrived,
            energies=new_energies.astype(energies.dtype),
            log_ratios=(gain[:-1] + gain[1:]).astype(energies.dtype),
            evaluations=jnp.ones(rungs, jnp.int32),
            non_finite=(~jnp.isfinite(new_energies)).astype(jnp.int32),
        )

    def _carry(self, key: Array, x: PyTree, beta: Array, to: Array) -> tuple[PyTree, PyTree]:
        model = self.flow.at(beta)
        value = model.augment(key, x)
        carried = model.carried(value, to)
        return value, jax.tree.map(lambda new, old: new.astype(old.dtype), carried, value)

    def _configuration(self, value: PyTree) -> PyTree:
        return value["x"] if self.flow.auxiliaries else value

    def _kinetic(self, value: PyTree, betas: Array) -> Array | float:
        """-log N(y; 0, tau I) of every rung; its constant cancels between before and after."""
        if not self.flow.auxiliaries:
            return 0.0
        return jax.vmap(lambda y, beta: -normal_log_prob(y, self.flow.thermostat.at(beta).tau))(value["y"], betas)


def flow_exchange(
    target: Target,
    state: ThermoState,
    flow: Steerable,
    kernel: Kernel,
    betas: Any,
    *,
    jumps: bool = True,
    swaps: bool = True,
    **options: Any,
) -> ReplicaExchangeSampler:
    """Replica exchange in which ``flow`` helps; ``kernel`` makes the local moves.

    jumps:    every round, each rung also tries a configuration drawn from the flow at its own temperature.
    swaps:    exchanges are carried by the flow (``FlowSwap``) rather than plain.
    options:  those of ``ReplicaExchangeSampler``.

    The flow and the target must mean the same density: for a molecule hold its centre as the model does, with
    ``held_at_centre(state, model.centre_scale)``.
    Raises ``InvalidArgumentError`` when carried swaps are asked of a flow that is not exactly steerable.
    """
    if swaps and not flow.exact:
        raise InvalidArgumentError(
            f"carried swaps need an exactly steerable flow, and this one is not: {flow.bias}. Ask for swaps=False"
        )
    if jumps:
        kernel = Compose((FlowProposal(flow), kernel), adapted=1)
    exchange = FlowSwap(flow) if swaps else PlainExchange()
    return ReplicaExchangeSampler(target, state, kernel, betas, exchange=exchange, **options)


def _reduced(state: ThermoState, x: PyTree, energy: Array) -> Array:
    reduced = state.beta * energy
    return reduced if state.bias is None else reduced + state.bias(x)
