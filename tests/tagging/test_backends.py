import os

import onnxruntime
from helpers.model_folder import write_model_folder

from wsd_distill import Tagger


def test_onnx_runtime_uses_the_cores_of_the_process_and_does_not_spin(tmp_path, monkeypatch):
    seen, session = [], onnxruntime.InferenceSession

    def load(path, options, **arguments):
        seen.append(options)
        return session(path, options, **arguments)

    monkeypatch.setattr(onnxruntime, "InferenceSession", load)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 5, 7}, raising=False)
    Tagger.load(write_model_folder(tmp_path / "model"))
    (options,) = seen
    assert options.intra_op_num_threads == 3
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"
