import numpy as np
import pytest

from heatbath.errors import InvalidArgumentError
from heatbath.targets.molecules.terms import ForceFieldTerms


def diatomic(**changes):
    terms = {"masses": [1.0, 2.0], "bond_atoms": [[0, 1]], "bond_length": [0.1], "bond_k": [1000.0]}
    arrays = {k: np.asarray(v) if isinstance(v, list) else v for k, v in (terms | changes).items()}
    return ForceFieldTerms(**arrays)


def test_equal_content_is_equal_and_hashes_equally():
    """If it failed, every molecule built twice would be compiled twice."""
    assert diatomic() == diatomic()
    assert hash(diatomic()) == hash(diatomic())
    assert {diatomic(): 1}[diatomic()] == 1


def test_any_change_of_content_makes_it_different():
    """If it failed, one molecule would be evaluated with the parameters of another."""
    assert diatomic() != diatomic(bond_k=[1000.0 + 1e-9])
    assert diatomic() != diatomic(gb_engulfed_term=True)
    assert diatomic() != diatomic(cutoff=1.0)


def test_arrays_cannot_be_changed_afterwards():
    """If it failed, a changed parameter would not change the hash under which programs were compiled."""
    with pytest.raises(ValueError, match="read-only"):
        diatomic().bond_k[0] = 0.0


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"bond_atoms": [[0, 2]]}, "bond_atoms"),
        ({"bond_atoms": [[-1, 1]]}, "bond_atoms"),
        ({"bond_k": [1.0, 2.0]}, "bond_k"),
        ({"bond_length": [np.nan]}, "bond_length"),
        ({"charges": [1.0, 1.0]}, "charges"),
        ({"gb_model": "obc2"}, "gb_charges"),
        ({"nonbonded_method": "cutoff_non_periodic", "charges": [0, 0], "sigma": [1, 1], "epsilon": [0, 0]}, "cutoff"),
    ],
)
def test_tables_that_do_not_fit_are_refused(changes, named):
    """If it failed, a broken table would give energies of atoms that do not exist."""
    with pytest.raises(InvalidArgumentError, match=named):
        diatomic(**changes)


def test_replace_changes_one_field():
    """If it failed, the negative controls of the energy tests would compare a table with itself."""
    assert diatomic().replace(bond_k=np.array([5.0])).bond_k[0] == 5.0
