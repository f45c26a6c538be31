"""Molecules from fragments: valid, each listed once, symmetry counted right, scores checked."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from heatbath.errors import InvalidArgumentError
from heatbath.models.gflownets import enumeration
from heatbath.models.gflownets.listed import ListedGraph

Chem = pytest.importorskip("rdkit.Chem", reason="needs RDKit: pip install 'heatbath[chem]'")

from heatbath.targets.fragments import (  # noqa: E402
    MoleculeScores,
    assemble,
    drug_likeness,
    grown,
    score_function,
)

PIECES = ("c1ccccc1", "C", "O")


@functools.cache
def built():
    made = assemble(PIECES, 3)
    return made, ListedGraph(made.parent, made.child, made.seen)


def test_molecules_are_valid_and_canonical():
    """Every molecule is read back by RDKit as itself; none is there twice."""
    made, _ = built()
    assert len(set(made.molecules)) == len(made.molecules)
    for text in made.molecules:
        assert Chem.MolToSmiles(Chem.MolFromSmiles(text)) == text


def test_molecules_by_hand():
    """All that two of benzene, methane and water make with a carbon in the bond, and xylenes and the like from three."""
    made = assemble(PIECES, 2)
    assert set(made.molecules) == {"c1ccccc1", "C", "O", "c1ccc(-c2ccccc2)cc1", "Cc1ccccc1", "Oc1ccccc1", "CC", "CO"}
    assert grown("Cc1ccccc1", ("C",)) == ["CCc1ccccc1", "Cc1ccc(C)cc1", "Cc1cccc(C)c1", "Cc1ccccc1C"]
    assert {"CCC", "COC", "CCO", "Cc1ccccc1C"} <= set(built()[0].molecules)
    assert not any("OO" in text for text in built()[0].molecules)


def test_symmetric_ways_count_once():
    """Benzene's six hydrogens are one way to toluene: one edge. The uniform policy's law is that of the exact flows, which a
    duplicate edge would bend.
    """
    made, env = built()
    toluene = made.smiles.index("Cc1ccccc1")
    parents = sorted(made.smiles[number] for number in made.parent[made.child == toluene])
    assert parents == ["C", "c1ccccc1"]
    found = enumeration.enumerate_states(env)
    assert len(found.states) == len(made.smiles)
    assert len(found.parent) == len(made.parent)
    rewards = np.random.default_rng(0).normal(size=len(made.molecules))
    back = -np.log(np.bincount(found.child)[found.child])
    flows, forward = enumeration.exact_flows(found, rewards, back)
    assert flows[0] == pytest.approx(np.logaddexp.reduce(rewards), abs=1e-12)
    assert enumeration.total_variation(enumeration.terminal_distribution(found, forward), rewards) < 1e-12
    # negative control: with every hydrogen an edge of its own and one parent per edge counted, toluene gets too much
    doubled = forward.copy()
    number = {int(state[0]): place for place, state in enumerate(found.states)}
    at = (found.child == number[toluene]) & (found.parent == number[made.smiles.index("c1ccccc1")])
    doubled[at] += np.log(6)
    bent = enumeration.terminal_distribution(found, doubled)
    assert enumeration.total_variation(bent / bent.sum(), rewards) > 1e-3


def test_labels_of_a_list():
    """Forward and backward labels belong to the same edges."""
    _, env = built()
    found = enumeration.enumerate_states(env)
    parents, children = jnp.asarray(found.states[found.parent]), jnp.asarray(found.states[found.child])
    back = jax.vmap(env.step_back)(children, jnp.asarray(found.way))
    assert np.array_equal(back, parents)
    assert np.array_equal(jax.vmap(env.action_of)(children, jnp.asarray(found.way)), found.action)
    ends = jnp.asarray(found.states[found.terminal])
    assert np.array_equal(jax.vmap(lambda s: env.state_of(env.configuration(s)))(ends), ends)


def test_lists_that_are_no_graph():
    """Double edges, circles, states that nothing leads to."""
    seen = np.zeros((3, 1), bool)
    for parent, child, word in (
        ([0, 0], [1, 1], "same states"),
        ([0, 1, 2], [1, 2, 1], "circle"),
        ([0], [1], "parent"),
    ):
        with pytest.raises(InvalidArgumentError, match=word):
            ListedGraph(np.array(parent), np.array(child), seen)


def test_scores(tmp_path):
    """Drug-likeness in [0, 1]; a function of the user's; bad scores and missing functions end in sentences."""
    values = drug_likeness(["c1ccccc1", "CC"])
    assert ((values > 0) & (values < 1)).all()
    file = tmp_path / "mine.py"
    file.write_text("def length(molecules):\n    return [len(text) for text in molecules]\n")
    assert score_function(f"{file}:length")(["CC", "CCO"]) == [2, 3]
    for name in (f"{file}:width", f"{tmp_path / 'none.py'}:length", "qed"):
        with pytest.raises(InvalidArgumentError):
            score_function(name)
    for scores, word in (
        ([1.0, np.nan], "finite"),
        ([1.0, -1.0], "negative"),
        ([0.0, 0.0], "zero"),
        ([[1.0]], "shape"),
    ):
        with pytest.raises(InvalidArgumentError, match=word):
            MoleculeScores(scores)
    target = MoleculeScores([0.5, 0.0], exponent=2.0, floor=0.1)
    assert target.log_z(1.0) == pytest.approx(np.log(0.25 + 0.01), abs=1e-6)
