"""Options that several verbs share, as annotated types."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

Json = Annotated[bool, Parameter(name="--json", help="Print JSON on stdout.")]
Quiet = Annotated[bool, Parameter(name=["--quiet", "-q"], help="No progress; results and errors only.")]
MaxTime = Annotated[
    str | None,
    Parameter(help="Stop after this time, e.g. 5min; what is there is analysed, and the run can be resumed."),
]
Run = Annotated[Path, Parameter(help="A run directory.")]
Settings = Annotated[
    tuple[str, ...],
    Parameter(name="--set", help="Set any key of the configuration, e.g. --set sampler.rungs=6.", negative=()),
]
