"""A generative flow network as a proposal: its trajectories carry weights that are honest however badly it is trained."""

import jax
import jax.numpy as jnp

from heatbath.models.gflownets.network import GFlowNet
from heatbath.models.gflownets.rollout import finished_configuration, forward, log_probabilities
from heatbath.samplers.proposals import Proposal


class FromGFlowNet(Proposal):
    """log w = -u(x) + log P_B(path | x) - log P_F(path), summed over the steps of a trajectory drawn from the policy.

    E[w f(x)] = sum_x exp(-u(x)) f(x) whatever the policy back is, since it is normalised over the paths to x; so that the mean
    weight estimates Z without bias. Every object must be within reach of the policy, which a softmax over all allowed actions is.
    """

    net: GFlowNet

    def draw(self, key, u):
        path = forward(key, self.net)
        log_pf, log_pb = log_probabilities(self.net, path)
        x = finished_configuration(self.net.environment, path)
        energy = u(x)
        total = jnp.result_type(float)
        return x, -energy + (jnp.sum(log_pb.astype(total)) - jnp.sum(log_pf.astype(total))).astype(
            jax.dtypes.canonicalize_dtype(total)
        )
