"""The table of named targets."""

import importlib
import inspect
import subprocess
import sys

import jax
import numpy as np
import pytest

from heatbath.errors import UsageError
from heatbath.targets import registry
from heatbath.targets.base import Target

CONTINUOUS = [name for name, entry in registry.ENTRIES.items() if entry.kind != "molecule"]


def test_the_table_is_read_without_jax():
    """``heatbath list`` must answer at once."""
    code = "import sys; from heatbath.targets import registry; registry.names(); sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("name", CONTINUOUS)
def test_every_entry_is_true(name):
    """Each name builds a target; parameters and defaults in the table are those of the factory."""
    entry = registry.get(name)
    factory = getattr(importlib.import_module(entry.module), entry.factory)
    defaults = {key: parameter.default for key, parameter in inspect.signature(factory).parameters.items()}
    assert set(entry.parameters) <= set(defaults)
    for key, value in entry.parameters.items():
        assert value == defaults[key]
    target = registry.make(name)
    assert isinstance(target, Target)
    assert np.isfinite(target.energy(target.initial(jax.random.key(0))))
    assert target.unit == "1"
    assert entry.description
    assert target.observables()
    assert all(name for name in target.basins())


def test_molecules_are_in_the_table():
    """Their factory takes the name first; the temperature is in kelvin."""
    for name in ("alanine-dipeptide", "chignolin"):
        entry = registry.get(name)
        assert entry.kind == "molecule"
        assert entry.arguments == (name,)
        assert entry.temperature == "300 K"
        factory = getattr(importlib.import_module(entry.module), entry.factory)
        parameters = inspect.signature(factory).parameters
        assert set(entry.parameters) <= set(parameters)
        for key, value in entry.parameters.items():
            assert parameters[key].default == value


def test_parameters_reach_the_target():
    """What the user sets is what is built."""
    assert registry.make("double-well", barrier=7.0, dimension=2).barrier == 7.0
    assert registry.make("harmonic-oscillators", stiffness=[1, 2, 3, 4]).space.shape == (4,)
    assert registry.make("ising-2d", width=3, length=5).space.shape == (3, 5)


@pytest.mark.parametrize(
    ("name", "parameters", "match"),
    [
        ("double-wel", {}, "'double-well'"),
        ("double-well", {"barier": 2.0}, "'barrier'"),
        ("double-well", {"barrier": "high"}, "must be a number"),
        ("double-well", {"dimension": 1.5}, "must be a whole number"),
        ("double-well", {"dimension": True}, "must be a whole number"),
        ("harmonic-oscillators", {"stiffness": "stiff"}, "must be a list of numbers"),
    ],
)
def test_wrong_names_and_values_get_a_suggestion(name, parameters, match):
    """A typing error is answered with the nearest name or the right kind, as a usage error."""
    with pytest.raises(UsageError, match=match):
        registry.make(name, **parameters)
