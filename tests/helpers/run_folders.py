"""Folders as written by tools/train_net.py, with results that can be computed by hand."""

import json
import math

import numpy as np
import torch

CLASSES = ["cat", "<b>&", "dog"]
LOG = """\
[01/02 10:00:00] detectron2 INFO: Rank of current process: 0. World size: 1
[01/02 10:00:00] detectron2 INFO: Environment info:
-------------------  ------------------------------------------
Python               3.11.7 (main, May  9 2026) [GCC 12.2.0]
numpy                2.4.6
detectron2           0.6 @/somewhere/detectron2
PyTorch debug build  False
PyTorch              2.14.1 @/somewhere/torch
GPU available        No: torch.cuda.is_available() == False
-------------------  ------------------------------------------
PyTorch built with:
  - GCC 13.3

[01/02 10:00:01] detectron2 INFO: Command line arguments: Namespace(config_file='configs/x.py', resume=True, \
eval_only=False, num_gpus={gpus}, num_machines=1, machine_rank=0, dist_url='tcp://127.0.0.1:1', opts={opts})
"""


def write_log(folder, opts, gpus=1):
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "log.txt", "a") as file:
        file.write(LOG.format(gpus=gpus, opts=opts))


def write_entries(folder, *entries):
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "metrics.json", "a") as file:
        file.writelines(json.dumps(entry) + "\n" for entry in entries)


def write_run(folder, seed, precisions, log_temperatures=None):
    """A finished run with 4, 6 and 0 positives of its classes among 8 test images."""
    write_log(folder, [f"train.seed={seed}", "train.note=<i>"])
    length = "max_iter: 40" if seed else "epochs: 12.0, max_iter: null"
    folder.joinpath("config.yaml").write_text(f"train: {{seed: {seed}, {length}, note: <i>}}\n")
    with open(folder / "log.txt", "a") as file:
        for total in ("0:00:07", "1 day, 0:01:01"):
            file.write(f"[01/02 03:04:05] d2.engine.hooks INFO: Total training time: {total} (0:00:01 on hooks)\n")
    write_entries(
        folder,
        {"iteration": 19, "total_loss": 3.0, "loss_hard": 2.0, "loss_soft": 1.0, "test/multilabel/mAP": 40.0},
        {"iteration": 39, "total_loss": 2.0, "loss_hard": 1.5, "loss_soft": 0.5},
        {"iteration": 40, "test/multilabel/mAP": 50.0},
    )
    metrics = {f"AP-{c}": None if math.isnan(ap) else ap for c, ap in zip(CLASSES, precisions)}
    metrics["mAP"] = float(np.nanmean(precisions))
    folder.joinpath("results.json").write_text(json.dumps({"test": {"multilabel": metrics}}))
    labels = np.zeros((8, 3), np.int8)
    labels[:4, 0], labels[:6, 1], labels[:, 2] = 1, 1, -1
    scores = folder / "inference" / "test"
    scores.mkdir(parents=True)
    np.savez(scores / "scores.npz", labels=labels, class_names=np.array(CLASSES), scores=np.zeros((8, 3)))
    names = {
        f"loss_class_aware.temperatures.log_{name}": torch.tensor(v) for name, v in (log_temperatures or {}).items()
    }
    torch.save({"model": {}, "trainer": {"iteration": 39, "objectives": names}}, folder / "model_final.pth")


def learned(seed):
    """t^c of 2, 1, 1/2 in seed 0 and 4, 1, 1/2 in seed 1; t of 1; t^d of 1, 2."""
    return {
        "t_cls": [math.log(2 + 2 * seed), 0.0, -math.log(2)],
        "t_student": [0.0] * 3,
        "t_det": [0.0, math.log(2)],
    }
