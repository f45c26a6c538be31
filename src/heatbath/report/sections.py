"""What a section of the page is made of. One module per kind of result turns its part of results.json into a ``Section``."""

import dataclasses
from collections.abc import Sequence

from heatbath.report.style import Plot


@dataclasses.dataclass(frozen=True)
class Fact:
    """One row of a table: a name, its text, and a remark."""

    name: str
    text: str
    remark: str = ""


@dataclasses.dataclass(frozen=True)
class Facts:
    """A card of facts, under an optional heading."""

    facts: Sequence[Fact]
    heading: str = ""
    kind: str = "facts"


@dataclasses.dataclass(frozen=True)
class Cell:
    """A cell of a table: its text, and what stands smaller below it."""

    text: str
    remark: str = ""


@dataclasses.dataclass(frozen=True)
class Table:
    """Rows under column names; the first cell of a row names it. ``note`` stands below."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    heading: str = ""
    note: str = ""
    kind: str = "table"


@dataclasses.dataclass(frozen=True)
class Figures:
    """Figures side by side where the window is wide enough; a ``wide`` one scrolls in its card where it is not."""

    plots: Sequence[Plot]
    wide: bool = False
    kind: str = "figures"


@dataclasses.dataclass(frozen=True)
class Caution:
    """Sentences that must not be overlooked."""

    sentences: Sequence[str]
    kind: str = "caution"


Block = Facts | Table | Figures | Caution


@dataclasses.dataclass(frozen=True)
class Section:
    """A heading, one sentence of introduction, and blocks in the order of reading. ``headline`` goes to the top of the page."""

    title: str
    lead: str
    blocks: Sequence[Block]
    headline: Sequence[Fact] = ()

    @property
    def plots(self) -> list[Plot]:
        """Every figure of the section."""
        return [plot for block in self.blocks if isinstance(block, Figures) for plot in block.plots]
