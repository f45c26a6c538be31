"""How an object is built: states as arrays of integers, actions that lead on, and the actions that lead back."""

import abc
from typing import ClassVar

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int


class Environment(eqx.Module):
    """A directed graph without cycles whose paths from ``initial`` end in finished objects.

    A state is an integer vector of fixed length; methods act on one state and are traced. An edge has two labels: the action
    that takes it forward from its parent, and the way back that undoes it from its child. Two edges may join the same states
    (prepending and appending the same letter): each has its own labels, so that flows on edges stay consistent and no parent
    is counted wrongly.
    """

    #: Training leaves its arrays as they are.
    frozen: ClassVar[bool] = True

    @property
    @abc.abstractmethod
    def actions(self) -> int:
        """Number of forward labels."""

    @property
    def ways_back(self) -> int:
        """Number of backward labels."""
        return self.actions

    @property
    @abc.abstractmethod
    def longest(self) -> int:
        """Largest number of steps of a path."""

    @property
    def shortest(self) -> int:
        """A number of steps that no path falls short of; ``longest`` where all paths are equally long."""
        return self.longest

    @abc.abstractmethod
    def initial(self) -> Int[Array, " k"]:
        """Where every path begins."""

    @abc.abstractmethod
    def allowed(self, state: Int[Array, " k"]) -> Bool[Array, " actions"]:
        """Which actions lead on; none in a finished state."""

    @abc.abstractmethod
    def step(self, state: Int[Array, " k"], action: Int[Array, ""]) -> Int[Array, " k"]:
        """The child. Undefined for an action that is not allowed."""

    @abc.abstractmethod
    def allowed_back(self, state: Int[Array, " k"]) -> Bool[Array, " ways"]:
        """Which ways lead back; none in the initial state."""

    @abc.abstractmethod
    def step_back(self, state: Int[Array, " k"], way: Int[Array, ""]) -> Int[Array, " k"]:
        """The parent. Undefined for a way that is not allowed."""

    def way_of(self, state: Int[Array, " k"], action: Int[Array, ""]) -> Int[Array, ""]:
        """The backward label, at the child, of the edge that ``action`` takes from ``state``."""
        return action

    def action_of(self, state: Int[Array, " k"], way: Int[Array, ""]) -> Int[Array, ""]:
        """The forward label, at the parent, of the edge that ``way`` undoes at ``state``."""
        return way

    def finished(self, state: Int[Array, " k"]) -> Bool[Array, ""]:
        """Whether the object is complete."""
        return ~jnp.any(self.allowed(state))

    def configuration(self, state: Int[Array, " k"]) -> Int[Array, "..."]:
        """The object of a finished state, as the target knows it."""
        return state

    @abc.abstractmethod
    def state_of(self, configuration: Int[Array, "..."]) -> Int[Array, " k"]:
        """The finished state of an object."""

    @abc.abstractmethod
    def features(self, state: Int[Array, " k"]) -> Float[Array, " f"]:
        """What a network sees of a state."""

    @property
    def places(self) -> int:
        """How many values ``place`` takes; 1 where there is no formula for it."""
        return 1

    def place(self, state: Int[Array, " k"]) -> Int[Array, ""]:
        """A number from 0 to ``places`` - 1, another one for every state where ``places`` > 1. Traced, unlike ``numbers``, and
        without gaps worth mentioning, so that it may be the row of a table.
        """
        return jnp.zeros((), jnp.int32)

    @abc.abstractmethod
    def numbers(self, states: np.ndarray) -> np.ndarray:
        """One distinct integer for each of many states (n, k) -> (n,), on the host."""
