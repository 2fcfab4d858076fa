"""A model folder with a small random network, written without PyTorch."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from wsd_distill.tagging.model_config import ONNX, ModelConfig

SIZE, CLASSES = 16, ["cat", "dog", "bird"]


def random_weights(seed=0):
    """Weights (8, 3, 3, 3) of a convolution and (8, 3) of a linear layer."""
    rng = np.random.default_rng(seed)
    return {
        "conv": rng.normal(0, 0.01, (8, 3, 3, 3)).astype(np.float32),
        "linear": rng.normal(0, 1, (8, 3)).astype(np.float32),
    }


def write_model_folder(folder, seed=0):
    """Write config.json and model.onnx: convolution, ReLU, mean over pixels, linear layer."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    ModelConfig(
        classes=CLASSES,
        thresholds=[0.5, 0.4, 0.6],
        calibration={"scale": 1.5, "offset": 0.25},
        image_size=SIZE,
        fast_decode=True,
        backbone={},
        pixel_mean=[0.0, 0.0, 0.0],
        pixel_std=[1.0, 1.0, 1.0],
        image_format="RGB",
    ).write(folder / "config.json")
    nodes = [
        helper.make_node("Cast", ["pixels"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["float"], ["x"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["x", "conv"], ["map"]),
        helper.make_node("Relu", ["map"], ["active"]),
        helper.make_node("ReduceMean", ["active"], ["mean"], axes=[2, 3], keepdims=0),
        helper.make_node("MatMul", ["mean", "linear"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "tagger",
        [helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["N", SIZE, SIZE, 3])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", len(CLASSES)])],
        [numpy_helper.from_array(value, name) for name, value in random_weights(seed).items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, str(folder / ONNX))
    return folder
