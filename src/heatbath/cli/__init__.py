"""The command line. ``main`` parses, runs one verb and returns its exit code.

0 good, 1 error, 2 usage, 3 stopped but resumable, 4 finished but not converged. Data goes to stdout, everything else to
stderr. Each verb lives in its own module, imported when it is used; none of them imports JAX before it has to compute.
"""

import os
import sys
from collections.abc import Sequence

from heatbath.errors import HeatbathError, Interrupted

ERROR, USAGE = 1, 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code. ``--traceback`` shows where an error came from."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        return _dispatch(arguments)
    except Interrupted as error:  # no error: the user asked for it
        print(str(error), file=sys.stderr)
        return error.exit_code
    except HeatbathError as error:
        return _fail(error, str(error), arguments, error.exit_code)
    except KeyboardInterrupt as error:
        return _fail(error, "interrupted; nothing was begun", arguments, ERROR)
    except BrokenPipeError:  # `heatbath list | head`
        sys.stderr.close()
        return ERROR
    except Exception as error:
        sentence = f"something unexpected went wrong: {type(error).__name__}: {_first_line(error)}"
        return _fail(error, f"{sentence}. Run again with --traceback to see where.", arguments, ERROR)


def _dispatch(arguments: list[str]) -> int:
    # XLA writes kilobytes of a false alarm to stderr for every program it takes from its cache (jax-ml/jax#38445). Real errors
    # reach Python as exceptions. Remove when the releases that do so are no longer supported.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from cyclopts import CycloptsError

    from heatbath.cli.app import app

    words = [word for word in arguments if word not in ("--traceback", "--no-color")]
    try:
        code = app(words or ["--help"], exit_on_error=False, print_error=False, result_action="return_value")
    except CycloptsError as error:
        return _fail(error, str(error).strip(), arguments, USAGE)
    return code if isinstance(code, int) else 0


def _fail(error: BaseException, sentence: str, arguments: list[str], code: int) -> int:
    if "--traceback" in arguments:
        import traceback

        traceback.print_exception(error)
    print(f"error: {sentence}", file=sys.stderr)
    return code


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or ["no message"])[0]
