"""What answers at once: help, lists, explanations, and every mistake that can be seen without computing."""

import json
import subprocess
import sys

import pytest

from heatbath.cli import main

INSTANT = [
    (["--help"], 0),
    (["sample", "--help"], 0),
    (["list"], 0),
    (["list", "runs", "--json"], 0),
    (["list", "references"], 0),
    (["show", "sequential-boltzmann-generator"], 0),
    (["sample", "mueller-brown", "--method", "flow"], 2),
    (["sample", "alanine-dipeptide", "--model", "nowhere"], 1),
    (["reference", "aab"], 2),
    (["show", "double-well"], 0),
    (["show", "sample"], 0),
    (["sampel"], 2),
    (["sample", "double-wel"], 2),
    (["sample", "missing.pdb"], 1),
    (["sample", "double-well", "--temperature", "-1"], 2),
    (["sample", "double-well", "--set", "sampler.rung=3"], 2),
    (["status", "nowhere"], 1),
]


def test_these_commands_import_no_jax(tmp_path):
    """JAX takes a second to import: help and error messages must not wait for it."""
    code = (
        "import json, sys, heatbath.cli\n"
        "codes = [heatbath.cli.main(words) for words in json.loads(sys.argv[1])]\n"
        "print(json.dumps([codes, 'jax' in sys.modules]), file=sys.stderr)"
    )
    words = json.dumps([words for words, _ in INSTANT])
    done = subprocess.run([sys.executable, "-c", code, words], capture_output=True, text=True, cwd=tmp_path, check=True)
    codes, jax_imported = json.loads(done.stderr.splitlines()[-1])
    assert codes == [code for _, code in INSTANT]
    assert not jax_imported
    assert list(tmp_path.iterdir()) == []


BAD = [
    (["sample"], 2, "expected one target"),
    (["sample", "double-wel"], 2, "Did you mean 'double-well'"),
    (["sample", "double-well", "--sequence", "AAA"], 2, "name = 'double-well' and sequence = 'AAA'"),
    (["sample", "absent.pdb"], 1, "'absent.pdb' does not exist"),
    (["sample", "double-well", "--temperature", "0"], 2, "must be positive"),
    (["sample", "double-well", "--temperature=-3"], 2, "must be positive"),
    (["sample", "double-well", "--temperature", "300 K"], 2, "reduced units"),
    (["sample", "--sequence", "AAA", "--temperature", "300 kg"], 2, "300 kg"),
    (["sample", "alanine-dipeptide", "--temperature", "nan"], 2, "temperature"),
    (["sample", "double-well", "--samples", "0"], 2, "at least 1"),
    (["sample", "double-well", "--samples", "many"], 2, "many"),
    (["sample", "double-well", "--method", "hcm"], 2, "Did you mean 'hmc'"),
    (["sample", "double-well", "--set", "sampler.sample=10"], 2, "Did you mean 'samples'"),
    (["sample", "double-well", "--set", "target.parameters.barier=2"], 2, "Did you mean 'barrier'"),
    (["sample", "double-well", "--set", "samples"], 2, "key=value"),
    (["sample", "double-well", "--max-time", "5 parsec"], 2, "parsec"),
    (["sample", "double-well", "--preset", "ful"], 2, "Did you mean 'full'"),
    (["sample", "double-well", "--config", "absent.toml"], 2, "does not exist"),
    (["sample", "double-well", "--forcefield", "amber14-obc2"], 2, "no molecule"),
    (["sample", "double-well", "--capped"], 2, "--capped belongs to --sequence"),
    (["sample", "double-well", "--sed", "3"], 2, "--sed"),
    (["sample", "double-well", "--seed", "-1"], 2, "seed"),
    (["run", "samples"], 2, "Did you mean 'sample'"),
    (["run", "absent.toml"], 2, "does not exist"),
    (["show", "double"], 2, "double-well"),
    (["list", "target"], 2, "target"),
    (["resume", "nowhere"], 1, "does not exist"),
    (["report", "."], 1, "not a run directory"),
    (["compare", "nowhere", "nowhere"], 1, "does not exist"),
    (["cite", "nowhere"], 1, "does not exist"),
]


@pytest.mark.parametrize(
    ("words", "code", "text"), BAD, ids=lambda value: " ".join(value) if isinstance(value, list) else ""
)
def test_mistakes_get_one_sentence(words, code, text, capsys, tmp_path, monkeypatch):
    """What is wrong and what to do, no traceback, nothing on stdout, nothing on disk."""
    monkeypatch.chdir(tmp_path)
    assert main(words) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert text in err
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == []


def test_traceback_on_demand(capsys):
    """Who looks for a bug needs the place; everybody else does not."""
    assert main(["sample", "nothing", "--traceback"]) == 2
    err = capsys.readouterr().err
    assert "Traceback" in err
    assert err.splitlines()[-1].startswith("error: unknown target 'nothing'")


def test_the_unexpected_is_one_sentence_too(capsys, monkeypatch):
    """A bug must not bury the user in a traceback, and must say how to get it."""

    def broken(*arguments, **options):
        raise ZeroDivisionError("first line\nsecond line")

    monkeypatch.setattr("heatbath.cli.show.describe", broken)
    assert main(["show", "double-well"]) == 1
    err = capsys.readouterr().err
    assert "ZeroDivisionError: first line" in err
    assert "--traceback" in err
    assert "second line" not in err


def test_lists(capsys):
    """A name that is not listed is not found by its users."""
    assert main(["list"]) == 0
    out = capsys.readouterr().out
    for word in ("alanine-dipeptide", "double-well", "replica-exchange", "experiments"):
        assert word in out
    assert main(["list", "targets", "--json"]) == 0
    assert {"name", "temperature", "description"} == set(json.loads(capsys.readouterr().out)[0])


def test_show_gives_a_file_that_works(capsys, tmp_path):
    """The shown configuration is a starting point: it must be accepted as it stands."""
    import tomllib

    from heatbath.experiments.config import build
    from heatbath.experiments.sample import SampleConfig

    assert main(["show", "sample", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert build(SampleConfig, tomllib.loads(shown["settings"])) == SampleConfig()
    assert main(["show", "replica-exchange"]) == 0
    assert "--method replica-exchange" in capsys.readouterr().out


def test_the_methods_are_those_of_the_samplers():
    """A listed method that does not exist, or one that nobody lists."""
    from heatbath.experiments.methods import GENERATOR_METHODS, METHODS
    from heatbath.samplers.sample import METHODS as REAL

    # those two need a proposal: in Python any, on the command line a trained generator
    assert set(METHODS) - set(GENERATOR_METHODS) == set(REAL) - {"importance", "smc"}
