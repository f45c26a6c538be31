"""The table of RNA words: numbers and words match, a filled table gives the same energies as ViennaRNA, gaps are refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from heatbath.errors import InvalidArgumentError

pytest.importorskip("RNA", reason="needs ViennaRNA: pip install 'heatbath[rna]'")

from heatbath.targets.rna import DuplexBinding
from heatbath.targets.rna_table import FitnessTable, TabulatedBinding, first_number, word_of


def test_numbers_of_words():
    """The empty word is 0; words of one length follow one another in the order of ``words``."""
    target = DuplexBinding(length=3)
    assert word_of(0) == ""
    assert [word_of(number) for number in range(1, 5)] == ["A", "C", "G", "U"]
    assert [word_of(first_number(3) + number) for number in range(64)] == target.words()


def test_a_table_is_the_target():
    """Energies of whole and of growing words from the table are those by ViennaRNA."""
    target = DuplexBinding(length=3)
    table = FitnessTable(target)
    carry = table.begin(jax.random.key(0))
    with pytest.raises(InvalidArgumentError, match="not known"):
        TabulatedBinding(target, carry.fitness).log_rewards()
    while not table.finished(carry):
        carry, _ = table.advance(carry)
    looked_up = TabulatedBinding(target, carry.fitness)
    words = np.array(np.unravel_index(np.arange(64), (4, 4, 4))).T
    found = np.array(jax.vmap(looked_up.energy)(jnp.asarray(words)))
    np.testing.assert_allclose(found, target._energies(words), rtol=1e-6)
    np.testing.assert_allclose(looked_up.log_rewards(), -found, rtol=1e-6)
    states = np.array([[1, 0, 0], [4, 2, 0], [4, 2, 1]])
    growing = [float(looked_up.partial(jnp.asarray(state))) for state in states]
    np.testing.assert_allclose(growing, target._partial_energies(states), rtol=1e-6)
    with pytest.raises(InvalidArgumentError, match="fitness of 85"):
        TabulatedBinding(target, carry.fitness[:-1])
