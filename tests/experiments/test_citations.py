"""The bibliography names what was used, and only that."""

import re
from types import SimpleNamespace

from heatbath.experiments.base import EXPERIMENTS
from heatbath.experiments.citations import ENTRIES, bibliography, keys
from heatbath.experiments.generators import KINDS
from heatbath.experiments.methods import METHODS
from heatbath.experiments.sample import SampleConfig, SamplerConfig, TargetConfig


def config(forcefield="auto", method="replica-exchange"):
    return SampleConfig(target=TargetConfig(name="x", forcefield=forcefield), sampler=SamplerConfig(method=method))


def test_what_is_cited_depends_on_what_was_used():
    """A missing citation is unfair, a wrong one misleading."""
    assert keys(config("amber99sbildn-obc2"), ("pivot", "hmc")) == [
        *["heatbath", "jax", "equinox", "openmm", "amber99sb", "ildn", "obc"],
        *["replica exchange", "mbar", "pivot", "hmc", "rhat", "psis"],
    ]
    assert keys(config(method="gibbs"), ("gibbs",)) == ["heatbath", "jax", "equinox", "gibbs", "rhat", "psis"]
    assert "amber14" in keys(config("amber14-vacuum"))
    assert "obc" not in keys(config("amber14-vacuum"))


def test_generators_cite_their_method_and_kind():
    """The authors of a method that made the draws, or trained the model, must be in its bibliography; others must not."""
    drawn = keys(config(method="flow-smc"), ("internal-coordinate-flow", "mala"))
    assert {"boltzmann generators", "sequential monte carlo", "mala", "spline flows", "circular flows"} <= set(drawn)
    assert not {"optax", "flow perturbation", "transformer flows", "replica exchange"} & set(drawn)
    assert len(set(drawn)) == len(drawn)

    trained = SimpleNamespace(experiment="train", model=SimpleNamespace(kind="transformer-flow"))
    assert keys(trained)[3:6] == ["boltzmann generators", "optax", "transformer flows"]
    assert "flow perturbation in steps" in keys(SimpleNamespace(experiment="flow-perturbation"))


def test_every_experiment_kind_and_method_is_cited():
    """A new kind of model or experiment without an entry would leave its authors out, silently."""
    plain = set(keys(SimpleNamespace()))
    for name in set(EXPERIMENTS) - {"sample"}:
        assert set(keys(SimpleNamespace(experiment=name))) - plain, name
    for name in (*KINDS, *METHODS):
        assert set(keys(SimpleNamespace(), (name,))) - plain, name


def test_entries_are_bibtex():
    """A broken entry stops LaTeX."""
    names = []
    for entry in ENTRIES.values():
        assert entry.count("{") == entry.count("}")
        names += re.findall(r"^@\w+\{(\w+),$", entry, flags=re.MULTILINE)
        assert {"author", "title"} <= set(re.findall(r"^  (\w+) = ", entry, flags=re.MULTILINE))
    assert len(set(names)) == len(ENTRIES)
    assert "VERSION" not in bibliography(config())
