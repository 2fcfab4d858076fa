import json

import pytest


@pytest.fixture
def finished(tmp_path):
    """A function: write ``results.json`` of a finished run, from its seed, training, mAP and further metrics."""

    def finished(seed, training, value, **more):
        folder = tmp_path / f"seed{seed}" / training
        folder.mkdir(parents=True)
        results = {"val": {"multilabel": {"mAP": 1.0}}, "test": {"multilabel": {"mAP": value, **more}}}
        (folder / "results.json").write_text(json.dumps(results))

    return finished
