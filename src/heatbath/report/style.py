"""How figures look, and how they get into the page: SVG that follows the page's light or dark colours."""

import csv
import dataclasses
import html
import io
import re
from collections.abc import Sequence
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

#: Colours that change with the theme: the hex value of the files, and the CSS variable of the page. Series: Okabe & Ito.
THEMED = {
    "ink": "#1c2733",
    "muted": "#66727f",
    "rule": "#c9d1d9",
    "unseen": "#e9edf1",
    "blue": "#0072b2",
    "vermilion": "#d55e00",
    "green": "#00805c",
    "purple": "#a4588b",
}
#: Free energy: minima dark, the rim of the visited region bright, so that it stands out against the unvisited.
SURFACE_MAP = "viridis"
#: Cold to hot, readable on white and on black, monotone for the colour-blind.
HEAT_MAP = LinearSegmentedColormap.from_list("heat", ["#3a7bd5", "#6fa8cf", "#c9a66b", "#e07b39", "#c43c2b"])

_SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "heatbath",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 10,
    "axes.labelsize": 10,
    "axes.titlesize": 10.5,
    "axes.edgecolor": THEMED["muted"],
    "axes.labelcolor": THEMED["ink"],
    "axes.linewidth": 0.8,
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "figure.facecolor": "none",
    "xtick.color": THEMED["muted"],
    "ytick.color": THEMED["muted"],
    "xtick.labelcolor": THEMED["ink"],
    "ytick.labelcolor": THEMED["ink"],
    "text.color": THEMED["ink"],
    "grid.color": THEMED["rule"],
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "lines.linewidth": 1.8,
    "savefig.dpi": 200,
}
_FONTS = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"


@dataclasses.dataclass(frozen=True)
class Plot:
    """A finished figure: ``file`` is the stand-alone SVG, ``inline`` the one for the page, ``table`` the data as CSV."""

    name: str
    caption: str
    file: str
    inline: str
    table: str


def settings():
    """The context in which figures are drawn. Nothing outside it changes."""
    return matplotlib.rc_context(_SETTINGS)


def canvas(width: float, height: float, columns: int = 1, **options) -> tuple[Figure, list[Axes]]:
    """A figure of ``width`` x ``height`` inches with a row of axes."""
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots(1, columns, squeeze=False, **options)[0]
    return figure, list(axes)


def finish(figure: Figure, name: str, caption: str, header: Sequence[str], rows: Sequence[Sequence[object]]) -> Plot:
    """Draw ``figure`` as SVG in both forms, with its data."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": "heatbath", "Title": caption})
    svg = buffer.getvalue()
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return Plot(name, caption, svg, inline(svg, name, caption), table.getvalue())


def inline(svg: str, name: str, caption: str) -> str:
    """The SVG as an element of the page: own ids, the page's fonts, and CSS variables instead of fixed colours."""
    body = svg[svg.index("<svg") :]
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.S)
    body = re.sub(r"<title>.*?</title>", "", body, flags=re.S)
    body = re.sub(r'\bid="', f'id="{name}-', body)
    body = re.sub(r"url\(#", f"url(#{name}-", body)
    body = re.sub(r'xlink:href="#', f'xlink:href="#{name}-', body)
    body = body.replace("'DejaVu Sans', sans-serif", _FONTS).replace("'DejaVu Sans'", _FONTS)
    for variable, colour in THEMED.items():
        body = re.sub(re.escape(colour), f"var(--{variable})", body, flags=re.I)
    width = re.search(r'viewBox="0 0 ([\d.]+)', body)
    limit = f' style="max-width:{float(width[1]) * 4 / 3:.0f}px"' if width else ""  # 1 pt = 4/3 px
    tag, rest = body.split(">", 1)
    tag = re.sub(r' (width|height)="[^"]*"', "", tag)
    return f'{tag} role="img" aria-label="{html.escape(caption)}"{limit}>{rest}'
