"""What a training of flows is watched by: the exact law where all objects are known, the best objects where they are not."""

import functools
from typing import Any

import equinox as eqx
import numpy as np
from jaxtyping import PyTree

from heatbath.models.gflownets.enumeration import (
    Enumeration,
    edge_log_policies,
    terminal_distribution,
    total_variation,
)


class Watch(eqx.Module):
    """``begin() -> arrays``; ``note(arrays, states, energies) -> arrays`` with every finished state that was drawn and its
    reduced energy; ``measure(net, arrays) -> numbers`` called ``names``. This one sees nothing.
    """

    @property
    def names(self) -> tuple[str, ...]:
        """What ``measure`` gives."""
        return ()

    def begin(self) -> PyTree:
        """What is known before the first draw."""
        return ()

    def note(self, seen: PyTree, states: np.ndarray, energies: np.ndarray) -> PyTree:
        """What is known after more draws."""
        return seen

    def measure(self, net: Any, seen: PyTree) -> dict[str, float]:
        """Numbers of the network and of what was seen."""
        return {}


class ExactLaw(Watch):
    """The network's own law P(x) by dynamic programming beside R(x)/Z, all objects known: no sampling.

    enumeration: of the environment; log_rewards (n,) of its terminal states; modes (n,) of bool, those worth counting.
    ``total_variation``, ``divergence`` (Jensen-Shannon, nats), ``log_z_error`` (of the flow out of the initial state) and
    ``modes``, the share of the modes that training has met.
    """

    enumeration: Enumeration = eqx.field(static=True)
    log_rewards: np.ndarray
    modes: np.ndarray
    balance: str = eqx.field(static=True, default="db")

    @property
    def names(self) -> tuple[str, ...]:
        return ("total_variation", "divergence", "log_z_error", "modes")

    @property
    def log_z(self) -> float:
        """log of the sum of rewards."""
        return float(np.logaddexp.reduce(self.log_rewards))

    def begin(self):
        return np.zeros(len(self.log_rewards), dtype=bool)

    def note(self, seen, states, energies):
        numbers, order = _sorted_numbers(self.enumeration)
        wanted = self.enumeration.environment.numbers(states)
        found = np.array(seen)
        found[order[np.searchsorted(numbers, wanted)]] = True
        return found

    def law(self, net: Any) -> np.ndarray:
        """P(x) of every object."""
        return terminal_distribution(self.enumeration, edge_log_policies(net, self.enumeration)[0])

    def measure(self, net, seen):
        law, truth = self.law(net), np.exp(self.log_rewards - self.log_z)
        log_z = net.log_z if self.balance == "tb" else net.heads(net.environment.initial()).log_flow
        share = float(np.asarray(seen)[self.modes].mean()) if self.modes.any() else float("nan")
        return {
            "total_variation": total_variation(law, self.log_rewards),
            "divergence": jensen_shannon(law, truth),
            "log_z_error": float(log_z) - self.log_z,
            "modes": share,
        }


class Best(Watch):
    """The ``count`` best objects met so far, no two alike, and how many met objects have energy below ``threshold``.

    ``top_mean``: their mean of exp(-u / exponent), the quantity whose power the reward is; ``modes``: the count below.
    """

    width: int = eqx.field(static=True)
    threshold: float = eqx.field(static=True)
    exponent: float = eqx.field(static=True, default=1.0)
    count: int = eqx.field(static=True, default=100)
    room: int = eqx.field(static=True, default=20_000)

    @property
    def names(self) -> tuple[str, ...]:
        return ("top_mean", "modes")

    def begin(self):
        return np.zeros((self.room, self.width), np.int32), np.full(self.room, np.inf)

    def note(self, seen, states, energies):
        states = np.concatenate([np.asarray(seen[0]), states]).astype(np.int32)
        energies = np.concatenate([np.asarray(seen[1]), energies.astype(np.float64)])
        _, first = np.unique(states, axis=0, return_index=True)
        order = first[np.argsort(energies[first], kind="stable")][: self.room]
        kept = (np.zeros((self.room, self.width), np.int32), np.full(self.room, np.inf))
        kept[0][: len(order)], kept[1][: len(order)] = states[order], energies[order]
        return kept

    def measure(self, net, seen):
        energies = np.asarray(seen[1])
        best = energies[: self.count][np.isfinite(energies[: self.count])]
        top = float(np.exp(-best / self.exponent).mean()) if len(best) else float("nan")
        return {"top_mean": top, "modes": float((energies < self.threshold).sum())}


def jensen_shannon(p: np.ndarray, q: np.ndarray) -> float:
    """(KL(p | m) + KL(q | m)) / 2 with m = (p + q) / 2, in nats."""
    middle = (p + q) / 2
    parts = [
        np.sum(np.where(r > 0, r * np.log(np.where(r > 0, r, 1.0) / np.maximum(middle, 1e-300)), 0.0)) for r in (p, q)
    ]
    return float(0.5 * (parts[0] + parts[1]))


@functools.lru_cache(maxsize=8)
def _sorted_numbers(enumeration: Enumeration) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of the terminal states in rising order, and where each stands among them."""
    numbers = enumeration.environment.numbers(enumeration.states[enumeration.terminal])
    order = np.argsort(numbers)
    return numbers[order], order
