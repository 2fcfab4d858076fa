import pytest
import torch
from detectron2.config import LazyConfig

from wsd_distill.engine import trained_run


def test_a_model_trained_on_a_gpu_is_loaded_without_one(tmp_path, monkeypatch):
    monkeypatch.setattr(trained_run, "load_config", LazyConfig.load)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    (tmp_path / "config.yaml").write_text(
        "{train: {device: cuda, channels_last: false}, "
        "model: {_target_: torch.nn.Linear, in_features: 1, out_features: 1}, "
        "dataloader: {test: {test: {loader: {batch_size: 4}}}}}"
    )
    with pytest.raises(FileNotFoundError, match="model_final.pth does not exist"):
        trained_run.load_trained_run(tmp_path)
    torch.save(torch.nn.Linear(1, 1).state_dict(), tmp_path / "model_final.pth")
    cfg, model = trained_run.load_trained_run(tmp_path)
    assert model.weight.device.type == "cpu" and cfg.dataloader.test.test.loader == {"batch_size": 4}
