"""The HTML page about all runs of a dataset."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from wsd_distill.report.page import write_report
from wsd_distill.report.table import Table

from .published import DISTILLED, PLAIN
from .recipes import COMPARISON, RECIPES, ROWS

_PICTURES = (
    "T-WDet's five boxes of highest objectness s' after non-maximum suppression, and the three classes that S-Cls "
    "without and with distillation finds likeliest, even where an image has fewer. Test images are drawn at random, "
    "first among those on which these classes differ."
)


def write_page(folder: Path, output: Path, seeds: int, name: str, numbers: Sequence[int], tables: list[Table]) -> Path:
    """``index.html`` in ``folder``, about the runs below ``output`` that the comparison and these tables have."""
    runs = methods(numbers, output, seeds)
    return write_report(
        folder,
        title=f"{name}: classification distilled from weakly-supervised detection",
        tables=tables,
        methods={method: [output / f"seed{seed}" / run for seed in range(seeds)] for method, run in runs.items()},
        plain=PLAIN,
        distilled=DISTILLED,
        pictures=[output / "scenes.png"],
        pictures_caption=_PICTURES,
    )


def methods(numbers: Sequence[int], output: Path, seeds: int) -> dict[str, str]:
    """Method -> run: each run once, by the first name that a table gives it, and what it starts from just before it.

    With ``numbers`` those of the comparison are left out that no table names and that are not there either.
    """
    tables = [ROWS[number] for number in numbers]
    wanted = {run for rows in tables or [COMPARISON] for run in rows.values()}
    wanted.update(path.name for seed in range(seeds) for path in output.glob(f"seed{seed}/*"))
    found: dict[str, str] = {}
    for rows in (COMPARISON, *tables):
        for method, run in rows.items():
            first = RECIPES[run].start
            for label, each in ((f"{method}, {'hint' if 'hint' in first else 'stage 1'}", first), (method, run)):
                if each and run in wanted and each not in found.values():
                    found[label] = each
    return found
