"""HTML pages from templates, in one style, that load nothing from the network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined


def render_page(template: Path, **values: Any) -> str:
    """Fill in a template; ``{{ style }}`` is the common CSS, and functions may be among the values."""
    style = Path(__file__).with_name("style.css").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined)
    environment.globals.update(style=style)
    return environment.from_string(template.read_text(encoding="utf-8")).render(**values)
