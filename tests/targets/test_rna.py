"""RNA binding: values of the published landscape, counting of calls, refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from heatbath.errors import InvalidArgumentError, ResourceError

pytest.importorskip("RNA", reason="needs ViennaRNA: pip install 'heatbath[rna]'")

from heatbath.targets.rna import LETTERS, DuplexBinding


def test_the_landscape_of_fourteen_letters():
    """0.5437 for AUGGGCCGGACCCC, the value of the published landscape; a duplex with nothing is at the floor."""
    target = DuplexBinding()
    word = "AUGGGCCGGACCCC"
    assert abs(target.fitness([word])[0] - 0.5437) < 1e-4
    x = jnp.array([LETTERS.index(letter) for letter in word])
    assert abs(float(target.energy(x)) + 3 * np.log(0.543747)) < 1e-5
    batch = jnp.stack([x, jnp.zeros_like(x)])
    found = jax.jit(jax.vmap(target.energy))(batch)
    single = [float(target.energy(row)) for row in batch]
    np.testing.assert_allclose(found, single, rtol=1e-12)


def test_a_word_is_paid_once():
    """Calls are what the method saves; asking again must not count."""
    target = DuplexBinding(length=3)
    before = target.calls
    words = target.words()
    assert words[1] == "AAC"
    assert len(set(words)) == 64
    target.fitness(words)
    after = target.calls
    target.fitness(words)
    assert target.calls == after
    assert after - before <= 64


def test_impossible_targets():
    """Other letters, lists that would never end."""
    with pytest.raises(InvalidArgumentError, match="ACGU"):
        DuplexBinding(strand="ACGT")
    with pytest.raises(ResourceError, match="too many"):
        DuplexBinding(length=14).words()
