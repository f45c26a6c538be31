"""Molecules assembled from fragments (extra ``chem``): all that can be made, all ways to make them, scores as rewards."""

import dataclasses
import functools
import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from heatbath.errors import InvalidArgumentError, MissingExtraError, ResourceError
from heatbath.spaces import Discrete
from heatbath.targets.base import Target
from heatbath.targets.sets import checked_log_rewards

#: Fragments of drug-like molecules: rings, linkers, groups at the end.
FRAGMENTS = ("c1ccccc1", "c1ccncc1", "C1CCNCC1", "C1COCCN1", "C", "NC=O", "O", "F")
#: Molecules beyond which nothing is listed.
MOST_MOLECULES = 200_000
#: Bits of the fingerprint that a network sees of a molecule.
FINGERPRINT_BITS = 256


def _rdkit() -> Any:
    try:
        from rdkit import Chem
        from rdkit.Chem import QED, rdFingerprintGenerator
    except ImportError as error:
        raise MissingExtraError("rdkit", "chem", "the assembly of molecules") from error
    return Chem, QED, rdFingerprintGenerator


@dataclasses.dataclass(frozen=True, eq=False)
class Assembly:
    """All ways to build. States are numbered from 0, nothing at all; edges ``parent`` -> ``child`` join two states once.

    A state is a molecule that may still grow, with its number of fragments, or one that is finished: ``smiles`` (canonical) of
    every state, "" for the start; ``finished`` (n,) of bool; seen (n, f) of bool: fingerprint, number
    of fragments, whether finished.
    One molecule is one finished object, however many fragments it can be seen as made of.
    """

    smiles: tuple[str, ...]
    parent: np.ndarray
    child: np.ndarray
    finished: np.ndarray
    seen: np.ndarray

    @property
    def molecules(self) -> tuple[str, ...]:
        """Canonical SMILES of the finished objects, in their order."""
        return tuple(self.smiles[number] for number in np.flatnonzero(self.finished))


def assemble(fragments: Sequence[str] = FRAGMENTS, blocks: int = 3) -> Assembly:
    """Every molecule of one to ``blocks`` fragments joined by single bonds.

    A bond takes a hydrogen from an atom on either side, of which at least one is carbon. Atoms that symmetry makes equal count
    once, and so do all ways that lead from one molecule to the same other. Raises ``InvalidArgumentError`` for SMILES that RDKit
    does not read, ``ResourceError`` beyond ``MOST_MOLECULES``, ``MissingExtraError`` without RDKit.
    """
    if blocks < 1 or not fragments:
        raise InvalidArgumentError(f"expected at least one fragment and one block; found {len(fragments)}, {blocks}")
    pieces = sorted({_canonical(text) for text in fragments})
    start = (0, "", False)
    numbers: dict[tuple[int, str, bool], int] = {start: 0}
    edges: list[tuple[int, int]] = []
    layer = [(1, text, False) for text in pieces]
    _add(numbers, edges, start, layer)
    for size in range(1, blocks + 1):
        following: dict[tuple[int, str, bool], None] = {}
        for state in layer:
            children = [(0, state[1], True)]
            if size < blocks:
                children += [(size + 1, text, False) for text in grown(state[1], tuple(pieces))]
            _add(numbers, edges, state, children)
            following |= dict.fromkeys(children[1:])
        layer = list(following)
    states = list(numbers)
    parent, child = np.array(edges).T
    finished = np.array([state[2] for state in states])
    return Assembly(tuple(s[1] for s in states), parent, child, finished, _features(states, blocks))


def _add(numbers: dict, edges: list, parent: tuple, children: Sequence[tuple]) -> None:
    for child in children:
        edges.append((numbers[parent], numbers.setdefault(child, len(numbers))))
    if len(numbers) > MOST_MOLECULES:
        raise ResourceError(f"more than {MOST_MOLECULES} molecules: take fewer fragments or blocks")


def grown(smiles: str, pieces: tuple[str, ...]) -> list[str]:
    """Canonical SMILES of all molecules that one more piece makes of a molecule, each once, in alphabetical order."""
    chem = _rdkit()[0]
    molecule, made = chem.MolFromSmiles(smiles), set()
    for text in pieces:
        piece = chem.MolFromSmiles(text)
        joined = chem.CombineMols(molecule, piece)
        for here in open_atoms(smiles):
            for there in open_atoms(text):
                if 6 not in (molecule.GetAtomWithIdx(here).GetAtomicNum(), piece.GetAtomWithIdx(there).GetAtomicNum()):
                    continue
                made.add(_joined(chem, joined, here, molecule.GetNumAtoms() + there))
    return sorted(made)


def _joined(chem: Any, pair: Any, first: int, second: int) -> str:
    editable = chem.RWMol(pair)
    for index in (first, second):
        atom = editable.GetAtomWithIdx(index)
        if atom.GetNumExplicitHs():  # hydrogens that stand in the SMILES, as in [nH]
            atom.SetNumExplicitHs(atom.GetNumExplicitHs() - 1)
    editable.AddBond(first, second, chem.BondType.SINGLE)
    chem.SanitizeMol(editable)
    return chem.MolToSmiles(editable)


@functools.lru_cache(maxsize=100_000)
def open_atoms(smiles: str) -> tuple[int, ...]:
    """Atoms with a hydrogen to give, one of each class that symmetry makes equal."""
    chem = _rdkit()[0]
    molecule = chem.MolFromSmiles(smiles)
    first: dict[int, int] = {}
    for atom, rank in zip(molecule.GetAtoms(), chem.CanonicalRankAtoms(molecule, breakTies=False), strict=True):
        if atom.GetTotalNumHs() > 0:
            first.setdefault(rank, atom.GetIdx())
    return tuple(first.values())


def _canonical(smiles: str) -> str:
    chem = _rdkit()[0]
    molecule = chem.MolFromSmiles(smiles)
    if molecule is None:
        raise InvalidArgumentError(f"RDKit does not read the fragment {smiles!r}")
    return chem.MolToSmiles(molecule)


def _features(states: Sequence[tuple[int, str, bool]], blocks: int) -> np.ndarray:
    chem, _, generators = _rdkit()
    generator = generators.GetMorganGenerator(radius=2, fpSize=FINGERPRINT_BITS)
    seen = np.zeros((len(states), FINGERPRINT_BITS + blocks + 2), dtype=bool)
    known: dict[str, np.ndarray] = {}
    for row, (size, smiles, _) in enumerate(states):
        if smiles and smiles not in known:
            known[smiles] = generator.GetFingerprintAsNumPy(chem.MolFromSmiles(smiles)).astype(bool)
        if smiles:
            seen[row, :FINGERPRINT_BITS] = known[smiles]
        seen[row, FINGERPRINT_BITS + size] = True  # finished ones have size 0 as the start, and a mark of their own
    seen[:, -1] = [state[2] for state in states]
    return seen


# Scores ---------------------------------------------------------------------------------------------------------------
def drug_likeness(molecules: Sequence[str]) -> np.ndarray:
    """Quantitative estimate of drug-likeness of SMILES, in [0, 1]. Source: Bickerton et al., Nature Chem. 4, 90 (2012)."""
    chem, qed, _ = _rdkit()
    return np.array([qed.qed(chem.MolFromSmiles(text)) for text in molecules])


def score_function(name: str) -> Callable[[Sequence[str]], Any]:
    """``"drug-likeness"``, or ``"FILE.py:FUNCTION"``: a function of the user's from a list of SMILES to as many scores.

    Raises ``InvalidArgumentError`` when there is no such file or function.
    """
    if name == "drug-likeness":
        return drug_likeness
    file, colon, function = name.rpartition(":")
    if not colon or not file.endswith(".py") or not Path(file).is_file():
        raise InvalidArgumentError(
            f"expected 'drug-likeness' or an existing 'FILE.py:FUNCTION' as score; found {name!r}"
        )
    specification = importlib.util.spec_from_file_location("score_of_user", file)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    if not callable(getattr(module, function, None)):
        raise InvalidArgumentError(f"'{file}' holds no function {function!r}")
    return getattr(module, function)


class MoleculeScores(Target):
    """Numbers of molecules: R = max(score, floor)^exponent, U = -log R.

    Raises ``InvalidArgumentError`` when there is not one score per molecule, when one is negative or not finite, or all are zero.
    """

    space: Discrete
    energies: Float[Array, " n"]

    def __init__(self, scores: Any, exponent: float = 8.0, floor: float = 0.01):
        scores = np.asarray(scores, dtype=np.float64)
        if scores.ndim != 1 or not exponent > 0 or not floor > 0:
            raise InvalidArgumentError(
                f"expected one score per molecule, exponent > 0 and floor > 0; found shape {scores.shape}, {exponent}, {floor}"
            )
        checked_log_rewards(scores)
        self.space = Discrete((1,), len(scores))
        self.energies = jnp.asarray(-exponent * np.log(np.maximum(scores, floor)), jnp.result_type(float))

    def energy(self, x):
        return self.energies[x[0]]

    def log_z(self, beta):
        return float(np.logaddexp.reduce(-beta * np.asarray(self.energies, dtype=np.float64)))
