"""Every error that heatbath raises on purpose.

The message of an error says what was expected, what was found and what to do; the docstring of its class is the
manual page: when it happens and how to mend it. The command line prints the message alone (``--traceback`` shows the
rest) and leaves with ``exit_code``.
"""


class HeatbathError(Exception):
    """Base of all deliberate errors. Catch it to catch everything that heatbath refuses."""

    exit_code = 1


class UsageError(HeatbathError):
    """The command line, a configuration or an argument asks for something that does not exist.

    Happens with unknown targets, methods and configuration keys. The message lists the nearest valid name.
    """

    exit_code = 2


class InvalidArgumentError(HeatbathError, ValueError):
    """An argument has the right type but an impossible value: a shape that does not fit, a negative count.

    The message names the argument, the accepted range and the value that came.
    """

    exit_code = 2


class TemperatureError(InvalidArgumentError):
    """A temperature is zero, negative, not finite or has no unit.

    The Boltzmann distribution needs 0 <= beta < infinity. Write temperatures as ``"300 K"`` for targets in kJ/mol and
    as plain numbers (units of kT) for reduced targets.
    """


class UnitError(InvalidArgumentError):
    """A quantity such as ``"300 K"`` or ``"1 fs"`` could not be read, or has a unit of the wrong dimension."""


class UnknownTruthError(HeatbathError):
    """A target was asked for an exact value (log Z, a sampler, a mean) that it does not declare.

    ``target.knows("log_z")`` says beforehand whether it does.
    """


class UnsupportedForceError(HeatbathError):
    """An OpenMM System holds a force, or an option of a force, that heatbath does not evaluate.

    Nothing is ever dropped silently: remove the force from the System if it does not matter for the distribution, or
    simulate the system with OpenMM itself.
    """


class StructureError(HeatbathError):
    """A PDB file, sequence or topology cannot be turned into a molecule.

    Happens with missing or broken files, unknown residues, missing atoms, coordinates that are not finite, and wrong
    stereochemistry. The message names the residue and the cure.
    """


class NonFiniteError(HeatbathError):
    """An energy, force or weight is NaN or infinite where it has to be finite.

    A start configuration with overlapping atoms is the usual cause: minimise it first.
    """


class MissingExtraError(HeatbathError, ImportError):
    """A feature needs an optional package. Install the extra named in the message."""

    def __init__(self, package: str, extra: str, feature: str):
        super().__init__(
            f"{feature} needs the package '{package}', which is not installed. Run: pip install 'heatbath[{extra}]'"
        )


class RunDirectoryError(HeatbathError):
    """A run directory cannot be created, read, written or continued.

    The message says which path and what to do (another ``--out``, ``heatbath resume``, free some space). What was good
    before stays good: files are written aside and renamed.
    """


class CheckpointError(RunDirectoryError):
    """A checkpoint is missing, truncated or belongs to another program state.

    Two checkpoints are kept; when the newest is damaged the one before it is used, and this error means that none is left.
    """


class MissingDataError(HeatbathError):
    """A reference ensemble is not on this machine, is too small, or is not the file that its record describes.

    The message names the command that makes it. Set ``HEATBATH_DATA`` to a folder where large data sets may lie.
    """


class ModelError(HeatbathError):
    """A trained model is missing, damaged, of another architecture, or was trained for something else.

    A model directory holds ``model.toml`` and ``arrays.npz``. Models draw the molecule, force field and temperature they were
    trained for; ``heatbath show DIRECTORY`` says which, and ``heatbath train`` makes another one.
    """


class ResourceError(HeatbathError):
    """The run would need more memory or disk than the machine has. The message gives both and which setting to lower."""


class ConvergenceError(HeatbathError):
    """An iterative solver did not converge and its value would mean nothing."""

    exit_code = 4


class Interrupted(HeatbathError):
    """The run was stopped by Ctrl-C, SIGTERM or ``--max-time`` after a checkpoint. ``heatbath resume`` continues it."""

    exit_code = 3


def nearest(name: str, known) -> str:
    """A sentence that suggests the known names closest to ``name``."""
    import difflib

    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    if close:
        return "Did you mean " + " or ".join(repr(k) for k in close) + "?"
    return "Known: " + ", ".join(known) + "."
