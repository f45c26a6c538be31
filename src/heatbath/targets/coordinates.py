"""Single coordinates as observables."""

import dataclasses

from heatbath.targets.base import Observable


@dataclasses.dataclass(frozen=True)
class Coordinate:
    """x -> x[index]; compared by value, so that programs compiled for one are used for all."""

    index: int

    def __call__(self, x):
        return x[self.index]


def first_axes(dimension: int, ranges=(None, None)) -> dict[str, Observable]:
    """The first one or two coordinates as observables called x and y."""
    names = ("x", "y")[: min(dimension, 2)]
    return {name: Observable(Coordinate(i), name, range=ranges[i]) for i, name in enumerate(names)}
