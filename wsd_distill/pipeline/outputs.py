"""The tables, the figure and the report page of finished runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from wsd_distill.report.page import write_report
from wsd_distill.report.tables import Table

from .comparison import add_speed, build_comparison, draw_comparison, write_comparison
from .experiments import DISTILLED, PLAIN, label_trainings
from .paper_tables import build_tables, write_tables


@dataclass
class Outputs:
    """The tables, the figure and the report page of the runs below ``folder``."""

    folder: Path
    name: str  # of the dataset
    seeds: int
    commands: dict[int, str]  # tables of the paper -> command that makes them; empty: the comparison
    report: Path | None = None  # folder of the page

    @property
    def figure(self) -> Path:
        return self.folder / "scenes.png"

    def build_tables(self) -> list[Table]:
        if self.commands:
            return build_tables(self.commands, self.folder, self.seeds, self.name)
        return [build_comparison(self.folder, self.seeds, self.name)]

    def write(self, tables: list[Table]) -> str:
        """Write the tables and the page; return the tables as Markdown, and the paths of all files."""
        if self.commands:
            path = self.folder / "tables.md"
            lines = [write_tables(path, tables), f"Tables: {path}"]
        else:
            path = self.folder / "table.md"
            lines = [write_comparison(path, tables[0]), f"Table: {path}"]
        if self.figure.exists():
            lines.append(f"Figure: {self.figure}")
        if self.report:
            lines.append(f"Report: {self._write_page(self.report, tables)}")
        return "\n".join(["", *lines])

    def run_models(self, tables: list[Table]) -> list[str]:
        """Measure the speed and draw the figure, where asked for; return error messages."""
        errors, first = [], self.folder / "seed0"
        if not self.commands and all(row.ours[0] for row in tables[0].rows):
            errors += _try("Images per second were not measured", lambda: add_speed(tables[0], first))
        if self.report or not self.commands:
            errors += _try("The figure was not drawn", lambda: draw_comparison(self.figure, first))
        return errors

    def _write_page(self, folder: Path, tables: list[Table]) -> Path:
        labels = label_trainings([*self.commands], self.folder, self.seeds)
        return write_report(
            folder,
            title=f"{self.name}: classification distilled from weakly-supervised detection",
            tables=tables,
            methods={m: [self.folder / f"seed{i}" / run for i in range(self.seeds)] for m, run in labels.items()},
            plain=PLAIN,
            distilled=DISTILLED,
            figure=self.figure,
        )


def _try(message: str, function: Callable[[], object]) -> list[str]:
    """Call a function whose errors must not stop what follows; return the message and the error, if any."""
    try:
        function()
    except Exception as error:
        return [f"{message} ({type(error).__name__}): {str(error).partition(chr(10))[0]}"]
    return []
