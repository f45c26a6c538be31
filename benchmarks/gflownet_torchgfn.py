"""torchgfn's side of ``gflownet_peer.py``: its hypergrid, and bags and words as environments of its kind."""

import abc

import torch
from gfn.env import DiscreteEnv
from gfn.estimators import DiscretePolicyEstimator, ScalarEstimator
from gfn.gflownet import DBGFlowNet, SubTBGFlowNet, TBGFlowNet
from gfn.gym import HyperGrid
from gfn.preprocessors import KHotPreprocessor
from gfn.samplers import Sampler
from gfn.states import DiscreteStates
from gfn.utils.modules import MLP, DiscreteUniform

torch.set_num_threads(1)


class _Built(DiscreteEnv):
    """Objects of ``steps`` steps, then the exit."""

    def __init__(self, letters, width, steps, log_reward):
        self.letters, self.steps, self._log_reward = letters, steps, log_reward
        start, end = torch.zeros(width, dtype=torch.long), torch.full((width,), -1, dtype=torch.long)
        super().__init__(letters + 1, start, (width,), sf=end)

    @abc.abstractmethod
    def taken(self, tensor):
        """Steps that lead to a state."""

    @abc.abstractmethod
    def back(self, tensor):
        """Which steps may have been the last."""

    def make_states_class(self):
        env = self

        class Built(DiscreteStates):
            state_shape, s0, sf = env.state_shape, env.s0, env.sf
            make_random_states, n_actions = env.make_random_states, env.n_actions

            def _compute_forward_masks(self):
                full = env.taken(self.tensor) >= env.steps
                masks = torch.empty((*self.batch_shape, self.n_actions), dtype=torch.bool)
                masks[..., :-1], masks[..., -1] = ~full[..., None], full
                return masks

            def _compute_backward_masks(self):
                return env.back(self.tensor)

        return Built

    def log_reward(self, states):
        return self._log_reward(states.tensor)

    def reward(self, states):
        return self.log_reward(states).exp()


class Bag(_Built):
    """Counts of every letter."""

    def taken(self, tensor):
        return tensor.sum(-1)

    def back(self, tensor):
        return tensor > 0

    def step(self, states, actions):
        return self.States(states.tensor.scatter(-1, actions.tensor, 1, reduce="add"))

    def backward_step(self, states, actions):
        return self.States(states.tensor.scatter(-1, actions.tensor, -1, reduce="add"))


class Word(_Built):
    """Letters from the left, letter + 1, then zeros; a step appends one."""

    def taken(self, tensor):
        return (tensor > 0).sum(-1)

    def _last(self, tensor):
        return tensor.gather(-1, (self.taken(tensor) - 1).clamp(min=0)[..., None])

    def back(self, tensor):
        return torch.arange(1, self.letters + 1) == self._last(tensor)

    def step(self, states, actions):
        tensor = states.tensor
        return self.States(tensor.scatter(-1, self.taken(tensor)[..., None], actions.tensor + 1))

    def backward_step(self, states, actions):
        tensor = states.tensor
        return self.States(tensor.scatter(-1, self.taken(tensor)[..., None] - 1, 0))


def _environment(problem):
    """The environment, values of every component of a state, and all states as it has them."""
    states = torch.as_tensor(problem["states"]).long()
    if problem["kind"] == "grid":
        dimension, side = (int(size) for size in problem["sizes"])
        env = HyperGrid(
            ndim=dimension, height=side, reward_fn_kwargs={"R0": float(problem["floor"]), "R1": 0.5, "R2": 2.0}
        )
        return env, side, states[:, :-1]
    letters, steps = (int(size) for size in problem["sizes"])
    if problem["kind"] == "bag":
        modes, needed = torch.as_tensor(problem["modes"]).long(), int(problem["needed"])
        powers = (steps + 1) ** torch.arange(letters)
        levels = torch.as_tensor(problem["levels"], dtype=torch.float32)

        def of_bag(tensor):
            number = (tensor * powers).sum(-1)
            place = torch.searchsorted(modes, number).clamp(max=len(modes) - 1)
            level = (tensor.amax(-1) >= needed).long() + (modes[place] == number).long()
            return levels[level]

        return Bag(letters, letters, steps, of_bag), steps + 1, states
    table = torch.as_tensor(problem["table"], dtype=torch.float32)
    powers = letters ** torch.arange(steps - 1, -1, -1)
    of_word = lambda tensor: table[((tensor - 1) * powers).sum(-1)]  # noqa: E731
    return Word(letters, steps, steps, of_word), letters + 1, states


def made(problem, arguments):
    """Sampling, a step of training, and the log policy at all states."""
    torch.manual_seed(arguments.seed)
    env, values, states = _environment(problem)
    seen = KHotPreprocessor(height=values, ndim=states.shape[1])
    shape = {"input_dim": seen.output_dim, "hidden_dim": arguments.width, "n_hidden_layers": 2}
    net, uniform = MLP(output_dim=env.n_actions, **shape), DiscreteUniform(env.n_actions - 1)
    options = {"n_actions": env.n_actions, "preprocessor": seen}
    forward = DiscretePolicyEstimator(module=net, is_backward=False, **options)
    back = DiscretePolicyEstimator(module=uniform, is_backward=True, **options)
    if arguments.balance == "tb":
        balance = TBGFlowNet(pf=forward, pb=back, init_logZ=0.0)
        rest, faster = balance.logz_parameters(), 100
    else:
        flow = ScalarEstimator(module=MLP(output_dim=1, **shape), preprocessor=seen)
        kinds = {"db": DBGFlowNet, "subtb": SubTBGFlowNet}
        balance = kinds[arguments.balance](pf=forward, pb=back, logF=flow)
        rest, faster = balance.logF_parameters(), 1
    sampler = Sampler(estimator=forward)
    optimiser = torch.optim.Adam(balance.pf_pb_parameters(), lr=arguments.rate)
    optimiser.add_param_group({"params": rest, "lr": faster * arguments.rate})

    def sampling():
        with torch.no_grad():
            sampler.sample_trajectories(env, n=arguments.batch, save_logprobs=False)

    def training():
        paths = sampler.sample_trajectories(env, n=arguments.batch, save_logprobs=True)
        optimiser.zero_grad()
        balance.loss(env, balance.to_training_samples(paths), recalculate_all_logprobs=False).backward()
        optimiser.step()

    def log_policy():
        with torch.no_grad():
            every = env.states_from_tensor(states)
            logits = net(seen(every)).masked_fill(~every.forward_masks, -torch.inf)
            return torch.log_softmax(logits, -1).numpy()

    return {"sampling": sampling, "training": training, "log_policy": log_policy, "batch": arguments.batch}
