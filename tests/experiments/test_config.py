"""Configurations are typed, complete, and wrong ones are refused with a suggestion."""

import dataclasses
import tomllib
from typing import Annotated, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heatbath.errors import UsageError
from heatbath.experiments.config import Quantity, assignments, build, differences, merge, read, to_dict, to_toml


@dataclasses.dataclass(frozen=True)
class Part:
    samples: int = 100
    rungs: int | Literal["auto"] = "auto"
    scale: float = 1.0
    names: tuple[str, ...] = ("a",)
    parameters: dict = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Whole:
    seed: int = 0
    method: Literal["hmc", "mala"] = "hmc"
    loud: bool = False
    temperature: Annotated[str, Quantity("temperature", ("auto",))] = "auto"
    part: Part = dataclasses.field(default_factory=Part)


def test_values_reach_their_fields():
    """A value that lands elsewhere, or a default that is lost, changes the run silently."""
    config = build(
        Whole, {"seed": 3, "part": {"rungs": 4, "scale": 2, "parameters": {"dim": 5}}, "temperature": "300 K"}
    )
    assert config == Whole(seed=3, temperature="300 K", part=Part(rungs=4, scale=2.0, parameters={"dim": 5}))
    assert build(Whole, {"temperature": 1.5}).temperature == "1.5"


def test_a_list_comes_back_from_its_own_text():
    """A finished run could not be reported again if the list in its resolved.toml were refused."""
    config = Whole(part=Part(names=("b", "c")))
    assert build(Whole, tomllib.loads(to_toml(to_dict(config)))) == config


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"sed": 1}, "unknown key 'sed'.*Did you mean 'seed'"),
        ({"part": {"sample": 1}}, r"unknown key 'part.sample' in \[part\].*'samples'"),
        ({"seed": "1"}, "'seed' must be an integer; found \"1\""),
        ({"seed": 1.5}, "'seed' must be an integer"),
        ({"seed": True}, "'seed' must be an integer; found true"),
        ({"loud": 1}, "'loud' must be true or false"),
        ({"method": "hcm"}, "'method' is 'hcm'. Did you mean 'hmc'"),
        ({"part": 3}, r"'part' is a table: write \[part\]"),
        ({"part": {"rungs": "many"}}, "an integer or 'auto'"),
        ({"part": {"parameters": 1}}, "is a table"),
        ({"temperature": "300 kg"}, "'temperature'.*'300 kg'.*or 'auto'"),
        ({"part": {"names": "a"}}, r"'part.names' is a list such as"),
        ({"part": {"names": ["a", 1]}}, r"'part.names\[1\]' must be a string"),
        ({"temperature": True}, "'temperature' must be a temperature"),
    ],
)
def test_mistakes_are_named(values, words):
    """Where, what was expected, what was found, what to do."""
    with pytest.raises(UsageError, match=words):
        build(Whole, values)


def test_layers_and_assignments():
    """Later layers win key by key; a --set value is TOML where it can be and text otherwise."""
    assert merge({"a": {"b": 1, "c": 2}, "d": 3}, {"a": {"b": 9}}) == {"a": {"b": 9, "c": 2}, "d": 3}
    pairs = ["part.samples=7", "temperature=300 K", "loud=true", "part.scale = 1e-3", 'method="mala"']
    assert assignments(pairs) == {
        "part": {"samples": 7, "scale": 1e-3},
        "temperature": "300 K",
        "loud": True,
        "method": "mala",
    }
    for bad in ("samples", "=3", "a..b=1"):
        with pytest.raises(UsageError, match="key=value"):
            assignments([bad])


def test_files_that_cannot_be_read(tmp_path):
    """One sentence with the path, and the line for bad TOML."""
    with pytest.raises(UsageError, match="does not exist"):
        read(tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_text("a = \n")
    with pytest.raises(UsageError, match=r"not valid TOML.*line 1"):
        read(tmp_path / "bad.toml")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match="cannot be read"):
        read(tmp_path / "binary.toml")


def test_a_written_configuration_reads_back():
    """resolved.toml is what resume builds the run from."""
    config = Whole(seed=1, part=Part(rungs=3, parameters={"weights": [0.25, 0.75], "a b": 'q"\\\n'}))
    text = to_toml(to_dict(config), header="first\nsecond")
    assert text.startswith("# first\n# second\n")
    assert build(Whole, tomllib.loads(text)) == config


leaves = (
    st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)
    | st.text(st.characters(codec="utf-8"))
)
trees = st.recursive(
    st.dictionaries(st.text(st.characters(codec="utf-8")), leaves | st.lists(leaves, max_size=3), max_size=4),
    lambda inner: st.dictionaries(st.text("ab-_é ", min_size=0), inner, max_size=3),
    max_leaves=8,
)


@given(trees)
def test_the_writer_agrees_with_the_standard_reader(tree):
    """Any tree of strings, numbers, lists and tables survives writing; odd characters are where writers break."""
    assert tomllib.loads(to_toml(tree)) == tree


def test_differences_name_the_leaf():
    """`compare` shows what differs between two runs, by key."""
    one, two = {"a": 1, "b": {"c": 2, "d": 3}}, {"a": 1, "b": {"c": 5}, "e": {"f": 1}}
    assert differences(one, two) == [("b.c", 2, 5), ("b.d", 3, None), ("e.f", None, 1)]
