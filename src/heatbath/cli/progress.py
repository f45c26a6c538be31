"""Progress on stderr: one living line on a terminal, a plain line every ten seconds elsewhere.

Both show the phase, how much is done, the rate, the time left, and one number of the science (round trips,
acceptance, or what a trained model's draws are worth), because a fast run that does not mix is no good.
"""

import contextlib
import math
import sys
import time
from collections.abc import Iterator, Mapping

from heatbath.cli.output import amount, colours, duration, note
from heatbath.experiments.drive import Beat, Progress

INTERVAL = 10.0
#: The number that is shown, in order of preference, and what it is called.
NUMBERS = {
    "round_trips": "round trips",
    "acceptance": "acceptance",
    "validation_ess": "validation ESS",
    "validation_loss": "held-out loss",
    "loss": "loss",
    "mean_energy": "mean energy",
}


def number(metrics: Mapping[str, float]) -> str:
    """The one scientific number of a chunk, with its name; empty when there is none."""
    for name, label in NUMBERS.items():
        if name in metrics and math.isfinite(metrics[name]):
            value = metrics[name]
            if name == "validation_ess":
                return f"{label} {100 * value:.2g} %"
            return f"{label} {value:.0f}" if float(value).is_integer() and abs(value) >= 1 else f"{label} {value:.3g}"
    return ""


def line(beat: Beat) -> str:
    """A beat in one line."""
    left = "" if beat.remaining is None or beat.fraction >= 1 else f"{duration(beat.remaining)} left"
    training = "optimiser_step" in beat.metrics
    parts = [
        f"{beat.phase} {100 * beat.fraction:3.0f} %",
        f"step {beat.metrics['optimiser_step']:.0f}" if training else f"{beat.draws} draws",
        f"{amount(beat.rate)} energies/s" if beat.rate or not training else "",
        number(beat.metrics),
        left,
    ]
    return "  ".join(part for part in parts if part)


class PlainProgress(Progress):
    """A line at the first chunk, every ten seconds, at a change of phase, and at the end."""

    def __init__(self):
        self._last, self._phase = -INTERVAL, None

    def beat(self, beat: Beat) -> None:
        now = time.monotonic()
        if now - self._last >= INTERVAL or beat.phase != self._phase or beat.fraction >= 1:
            self._last, self._phase = now, beat.phase
            note(f"{duration(beat.elapsed):>12}  {line(beat)}")

    def notice(self, sentence: str) -> None:
        note(sentence)


class TerminalProgress(Progress):
    """One line that is redrawn, by rich."""

    def __init__(self, bar, task, console):
        self._bar, self._task, self._console = bar, task, console

    def beat(self, beat: Beat) -> None:
        self._bar.update(self._task, completed=beat.fraction, description=line(beat))

    def notice(self, sentence: str) -> None:
        self._console.print(sentence, highlight=False, markup=False, soft_wrap=True)


@contextlib.contextmanager
def reporting(*, quiet: bool) -> Iterator[Progress]:
    """The kind of progress that suits stderr; ``quiet`` keeps notices and leaves everything else out."""
    if quiet:
        yield _Notices()
    elif not sys.stderr.isatty():
        yield PlainProgress()
    else:
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn
        from rich.progress import Progress as Bar

        console = Console(stderr=True, no_color=not colours(sys.stderr))
        columns = (BarColumn(bar_width=24), TextColumn("{task.description}", markup=False))
        with Bar(*columns, console=console, transient=False) as bar:
            yield TerminalProgress(bar, bar.add_task("starting: building and compiling", total=1.0), console)


class _Notices(Progress):
    def notice(self, sentence: str) -> None:
        note(sentence)
