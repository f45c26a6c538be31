"""The table of verbs. Modules are named as strings: a verb's own imports happen when it is called."""

from cyclopts import App, Parameter

import heatbath

_HELP = """Equilibrium samples from the Boltzmann distribution, with honest weights.

    heatbath sample alanine-dipeptide
    heatbath sample double-well --samples 2000 --seed 7
    heatbath sample --sequence AAA --temperature "310 K"
"""
_EPILOGUE = (
    "Exit codes: 0 good, 1 error, 2 usage, 3 stopped but resumable, 4 finished but not converged. "
    "Everywhere: --traceback shows where an error came from, --no-color (or NO_COLOR) turns colours off."
)

VERBS = (
    ("sample", "sample:sample", "Draw equilibrium samples of a system and report free energies."),
    ("train", "train:train", "Train a generator for a system, to sample from later."),
    ("run", "run:run", "Run an experiment by name or from a TOML file."),
    ("reference", "reference:reference", "Make the reference ensemble of a molecule for training and comparison."),
    ("resume", "resume:resume", "Continue a run from its last checkpoint."),
    ("extend", "resume:extend", "Draw more samples in a finished or stopped run."),
    ("status", "status:status", "Say how far a run is."),
    ("report", "report:report", "Compute the results and the report of a run again."),
    ("export", "export:export", "Write the draws of a molecule as PDB, DCD, XTC or npz."),
    ("list", "listing:listing", "List targets, methods, experiments or runs."),
    ("show", "show:show", "Explain a target, method or experiment and its parameters."),
    ("compare", "compare:compare", "Compare the settings and the numbers of two runs."),
    ("cite", "cite:cite", "Print the BibTeX of what a run used."),
    ("doctor", "doctor:doctor", "Check this installation and this machine."),
)

app = App(
    name="heatbath",
    version=heatbath.__version__,
    help=_HELP,
    help_epilogue=_EPILOGUE,
    help_format="plaintext",
    default_parameter=Parameter(negative=(), show_default=False),
)
for _order, (_name, _place, _summary) in enumerate(VERBS):
    app.command(f"heatbath.cli.{_place}", name=_name, help=_summary, sort_key=_order)
