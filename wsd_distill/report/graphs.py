"""The measurements of a tagger's ONNX files in its report, which ``wsd export --int8`` adds."""

from __future__ import annotations

from pathlib import Path

from wsd_distill.io import atomic_write

from .templates import render_page

REPORT, MODEL = "report.html", "model"  # in the output folder of wsd train
BEGIN, END = "<!-- graphs -->", "<!-- end of graphs -->"  # the measurements are between them


def find_report(model: Path) -> Path | None:
    """Return the report of the ``wsd train`` that has written a model folder; None if it is of another command.

    Raises:
        ValueError: the page has no place for the measurements.
    """
    training, path = model.resolve().parent, model.resolve().parent / REPORT
    if model.resolve() != training / MODEL or not ((training / "plan.json").exists() and path.exists()):
        return None
    _split_page(path)
    return path


def add_graphs(path: Path, name: str, graphs: dict[str, dict[str, float]]) -> None:
    """Show the measurements of the ONNX files (``ModelConfig.graphs``) in a page that exists, instead of earlier ones.

    Raises:
        ValueError: the page has no place for them.
    """
    before, after = _split_page(path)
    section = render_page(Path(__file__).with_name("graphs.html"), name=name, graphs=graphs)
    with atomic_write(path) as tmp_path:
        tmp_path.write_text(before + BEGIN + section + END + after, encoding="utf-8")


def _split_page(path: Path) -> tuple[str, str]:
    before, begin, rest = path.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        text = "is not a report of this version, so that the measurements of --int8 have no place in it"
        raise ValueError(f"{path} {text}: write it again by wsd train --resume, or move it away")
    return before, after
