"""Model card of a model folder, in Hugging Face's form: ``README.md`` with YAML front matter."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..io import atomic_write
from .model_config import ModelConfig

_TEXT = """\
---
license: other
license_name: see-below
pipeline_tag: image-classification
library_name: wsd_distill
tags:
- image-classification
- multi-label
- onnx
- safetensors
{metrics}---

# Tagger of {count} classes

Gives photos the labels whose probability reaches their threshold. Its license is that of the photos and the pretrained
weights that it was trained with.

## Use

`pip install wsd_distill[onnx]`, then

```python
from wsd_distill import Tagger
tagger = Tagger.load("path/to/this/folder")
print(tagger(["photo.jpg"]))
```

`model.onnx` takes `pixels`, uint8 (N, {size}, {size}, 3) RGB, and returns `logits` (N, {count}); the probability of a
class is sigmoid({scale:g} * logit + {offset:g}). The normalization is inside. `Tagger.read` resizes a photo:
{decoding}, then Pillow's bilinear resize to {size} x {size}.

## Classes

{classes}

## Metrics

{results}
{graphs}
Hash of the training labels: {data_hash}. Written with {versions}.
"""


def write_card(path: Path, config: ModelConfig) -> None:
    """Write the model card."""
    scores = {name: values for name, values in config.metrics.items() if isinstance(values, dict)}
    names = sorted({name for values in scores.values() for name in values if not name.endswith("_interval")})
    metrics = "metrics:\n" + "".join(f"- {json.dumps(name)}\n" for name in names) if names else ""
    reduced = "a JPEG is decoded at 1/2, 1/4 or 1/8 where its sides stay at least as long"
    text = _TEXT.format(
        metrics=metrics,
        count=len(config.classes),
        size=config.image_size,
        **config.calibration,
        decoding=reduced if config.fast_decode else "it is decoded at full size",
        classes=_class_table(config),
        results=_metric_table(scores) if names else "None were given.",
        graphs=_graph_table(config),
        data_hash=config.data_hash or "unknown",
        versions=", ".join(f"{name} {version}" for name, version in config.versions.items()),
    )
    with atomic_write(path) as tmp_path:
        tmp_path.write_text(text, encoding="utf-8")


def _class_table(config: ModelConfig) -> str:
    rows = [f"| {_cell(name)} | {t:.3f} |" for name, t in zip(config.classes, config.thresholds)]
    return "\n".join(["| class | threshold |", "|---|---|", *rows])


def _metric_table(scores: dict[str, dict[str, Any]]) -> str:
    rows = []
    for split, values in scores.items():
        for name, value in values.items():
            low_high = values.get(f"{name}_interval")
            if not name.endswith("_interval"):
                interval = f"{low_high[0]:.2f} to {low_high[1]:.2f}" if low_high else ""
                rows.append(f"| {_cell(split)} | {_cell(name)} | {_number(value)} | {interval} |")
    return "\n".join(["| split | metric | value (%) | 95 % interval |", "|---|---|---|---|", *rows])


def _graph_table(config: ModelConfig) -> str:
    if not config.graphs:
        return ""
    rows = [
        f"| `{name}` | {x['megabytes']:.1f} | {x['images_per_second']:.0f} | {x['mAP']:.2f} |"
        for name, x in config.graphs.items()
    ]
    text = "Measured by `wsd export --int8` on its labelled photos; images/s of the network alone."
    return "\n".join(["", text, "", "| file | MB | images/s | mAP (%) |", "|---|---|---|---|", *rows, ""])


def _number(value: Any) -> str:
    return f"{value:.2f}" if isinstance(value, (int, float)) else "undefined"


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())
