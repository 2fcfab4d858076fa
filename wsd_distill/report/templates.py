"""HTML pages from templates, in one style, that load nothing from the network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined


def render_page(template: Path, **values: Any) -> str:
    """Fill in a template that extends ``base.html``; functions may be among the values."""
    folder = Path(__file__).parent
    options: dict[str, Any] = {"autoescape": True, "trim_blocks": True, "lstrip_blocks": True}
    environment = Environment(loader=FileSystemLoader(folder), undefined=StrictUndefined, **options)
    environment.globals.update(style=(folder / "style.css").read_text(encoding="utf-8"))
    return environment.from_string(template.read_text(encoding="utf-8")).render(**values)
