"""Writing a report into its run directory: the page, and every figure as a file with its data."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from heatbath.io.storage import explained, write_atomically
from heatbath.report import page
from heatbath.report.record import read
from heatbath.report.style import Plot


def build(run_dir: str | Path) -> Path:
    """Make ``report/index.html`` of a finished run, and return its path.

    Reads the run directory only (results.json, metrics.jsonl, provenance.json, resolved.toml, CITATIONS.bib, structures/),
    so a run may be reported again at any time and anywhere. The page holds everything it needs and opens without a
    network; ``report/figures/`` has each figure as SVG with its data as CSV. Sections without data are left out. Raises
    ``RunDirectoryError`` when there are no results or the directory cannot be written.
    """
    record = read(Path(run_dir))
    plots, special = page.figures(record), page.sections(record)
    html = page.render(record, plots, special)
    folder = record.path / "report"
    with explained(folder, "The run's results are unchanged."):
        folder.mkdir(exist_ok=True)
        _write_figures(folder / "figures", {**plots, **{section.title: section.plots for section in special}})
        write_atomically(folder / "index.html", html)
    return folder / "index.html"


def _write_figures(folder: Path, plots: Mapping[str, Sequence[Plot]]) -> None:
    folder.mkdir(exist_ok=True)
    for plot in (plot for group in plots.values() for plot in group):
        write_atomically(folder / f"{plot.name}.svg", plot.file)
        write_atomically(folder / f"{plot.name}.csv", plot.table)
