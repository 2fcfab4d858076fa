"""Each image's teacher outputs come from the teacher that was not trained on it."""

import json

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.utils import comm
from helpers.builders import CLASSES, K, make_pair, make_student, make_teacher
from PIL import Image

from wsd_distill.data.build import build_test_loader
from wsd_distill.data.check import split_hash
from wsd_distill.data.datasets import get_fold, register_with_unlabelled, register_without_fold
from wsd_distill.data.mapper import MultiLabelMapper
from wsd_distill.data.proposal_store import ProposalStoreWriter, StoreMetadata
from wsd_distill.distillation import (
    ClassAware,
    Distiller,
    DistillTrainer,
    Objectives,
    RoIAwareTransfer,
    StaleCacheError,
    TeacherCache,
)
from wsd_distill.distillation.cross_fitting import check_folds
from wsd_distill.modeling.checkpoints.load import CheckpointError

IMAGES, SIZE, FOLDS = 7, 32, 3


@pytest.fixture
def folder(tmp_path, restore_catalogs):
    """Seven noise images, registered as "pets", their proposals and three runs of teachers with other weights."""
    rng = np.random.default_rng(0)
    records = []
    with ProposalStoreWriter(str(tmp_path / "proposals.arrow"), StoreMetadata("pets", "test")) as writer:
        for i in range(IMAGES):
            path = tmp_path / f"{i}.png"
            Image.fromarray(rng.integers(0, 256, (40, 60, 3), np.uint8)).save(path)
            records.append({"file_name": str(path), "image_id": str(i), "height": 40, "width": 60, "labels": [i % K]})
            corner = rng.random((4, 2), dtype=np.float32) * 20
            writer.write(i, np.hstack([corner, corner + 15]), np.linspace(1, 0.2, 4, dtype=np.float32))
    DatasetCatalog.register("pets", lambda: records)
    MetadataCatalog.get("pets").thing_classes = CLASSES
    for fold in range(FOLDS):
        name = register_without_fold("pets", f"{fold}/{FOLDS}")
        (tmp_path / f"fold{fold}").mkdir()
        torch.manual_seed(fold)
        torch.save({"model": make_teacher().state_dict()}, tmp_path / f"fold{fold}/model_final.pth")
        trained_on = split_hash(DatasetCatalog.get(name), CLASSES)
        (tmp_path / f"fold{fold}/inputs.json").write_text(json.dumps({"dataset.train": trained_on}))
    assert {get_fold(i, FOLDS) for i in range(IMAGES)} == {0, 1, 2}
    return tmp_path


def checkpoints(folder):
    return [str(folder / f"fold{fold}/model_final.pth") for fold in range(FOLDS)]


def make_mapper(cached=True):
    sizes = {"sizes": [16], "teacher_sizes": [SIZE]}
    return MultiLabelMapper(is_train=True, num_classes=K, num_proposals=4, teacher_cached=cached, **sizes)


def make_cache(folder, name="cache"):
    proposals = str(folder / "proposals.arrow")
    return TeacherCache(str(folder / name), dataset="pets", proposals=proposals, mapper=make_mapper(), batch_size=2)


def make_distiller(folder, files=None, **options):
    objectives = Objectives(
        loss_roi=RoIAwareTransfer(layers=[make_pair()], pooler_size=3, num_proposals=3),
        loss_class_aware=ClassAware(num_classes=K, num_proposals=4),
    )
    options = {"use_cache": True, "cache": make_cache(folder), **options}
    files = files or checkpoints(folder)
    teacher = make_teacher()
    return Distiller(
        student=make_student(), teacher=teacher, teacher_checkpoint=files, objectives=objectives, **options
    ).train()


def views(cache):
    """Teacher's views of all images, by image."""
    images = build_test_loader("pets", mapper=cache.mapper, proposals=cache.proposals).dataset
    return [images[i]["teacher"] for i in range(IMAGES)]


def rows(folder):
    """All files of rows and their indices, as bytes."""
    names = [f"{name}.{kind}" for name in ("logits", "conv2") for kind in ("index.npy", "0.rows")]
    return [(folder / "cache" / name).read_bytes() for name in names]


def test_rows_are_those_of_the_teacher_that_was_not_trained_on_the_image(folder):
    distiller = make_distiller(folder)
    distiller.fill_cache()
    found = distiller.cache.read(views(distiller.cache), ["conv2"], torch.device("cpu"))
    for i in range(IMAGES):
        name = f"plain{get_fold(i, FOLDS)}"
        cache = make_cache(folder, name)
        plain = make_distiller(folder, checkpoints(folder)[get_fold(i, FOLDS)], cache=cache)
        plain.fill_cache()
        expected = cache.read([views(cache)[i]], ["conv2"], torch.device("cpu"))
        torch.testing.assert_close(found.cls_logits[i], expected.cls_logits[0], rtol=1e-5, atol=1e-2)
        torch.testing.assert_close(found.det_logits[i], expected.det_logits[0], rtol=1e-5, atol=1e-2)
        torch.testing.assert_close(found.features["conv2"][i], expected.features["conv2"][0], rtol=1e-5, atol=1e-2)


def test_the_check_of_folds_leaves_unlabelled_images_out(folder):
    """What the teachers were trained on is compared with the labelled ones."""
    added = [{"file_name": str(folder / "7.png"), "image_id": "7", "height": 40, "width": 60, "labels": []}]
    DatasetCatalog.register("others", lambda: added)
    MetadataCatalog.get("others").thing_classes = CLASSES
    name = register_with_unlabelled("pets", "others")
    check_folds(checkpoints(folder), name)
    DatasetCatalog.register("fewer", lambda: DatasetCatalog.get("pets")[1:])
    MetadataCatalog.get("fewer").thing_classes = CLASSES
    with pytest.raises(ValueError, match="was not trained on the images of fewer_with_others without fold"):
        check_folds(checkpoints(folder), register_with_unlabelled("fewer", "others"))


def test_a_killed_run_continues_with_the_same_rows(folder, monkeypatch):
    make_distiller(folder).fill_cache()
    expected = rows(folder)
    for path in (folder / "cache").glob("*"):
        path.unlink()
    distiller, compute_rows, calls = make_distiller(folder), TeacherCache._compute_rows, []

    def count(*arguments):
        calls.append(len(arguments[2]))
        if len(calls) == 4:
            raise KeyboardInterrupt
        return compute_rows(*arguments)

    monkeypatch.setattr(TeacherCache, "_compute_rows", count)
    with pytest.raises(KeyboardInterrupt):
        distiller.fill_cache()
    make_distiller(folder).fill_cache()
    assert rows(folder) == expected
    assert sum(calls) < 2 * IMAGES


def test_ranks_share_each_fold(folder, monkeypatch):
    monkeypatch.setattr(comm, "get_world_size", lambda: 2)
    monkeypatch.setattr(comm, "synchronize", lambda: None)
    for rank in (0, 1):
        monkeypatch.setattr(comm, "get_rank", lambda rank=rank: rank)
        make_distiller(folder).fill_cache()
    assert (folder / "cache" / "conv2.1.rows").stat().st_size > 0
    monkeypatch.undo()
    shared = read_all(folder)
    for path in (folder / "cache").glob("*"):
        path.unlink()
    for found, expected in zip(shared, read_all(folder)):  # batches of other sizes: values may round to the next level
        torch.testing.assert_close(found, expected, rtol=0, atol=expected.abs().max().item() / 100)


def read_all(folder):
    """Fill, and return maps and logits of all images."""
    distiller = make_distiller(folder)
    distiller.fill_cache()
    found = distiller.cache.read(views(distiller.cache), ["conv2"], torch.device("cpu"))
    return [*found.features["conv2"], *found.cls_logits, *found.det_logits]


def test_the_cache_of_one_teacher_or_of_others_is_an_error(folder):
    make_distiller(folder).fill_cache()
    with pytest.raises(StaleCacheError, match="built with another teacher"):
        make_distiller(folder, checkpoints(folder)[0]).fill_cache()
    torch.save({"model": make_teacher().state_dict()}, checkpoints(folder)[2])
    with pytest.raises(StaleCacheError, match="built with another teacher"):
        make_distiller(folder).fill_cache()


def test_a_teacher_that_saw_its_fold_is_an_error_that_names_the_file(folder):
    files = checkpoints(folder)
    with pytest.raises(ValueError, match="fold1/model_final.pth was not trained on the images of pets without fold 0"):
        make_distiller(folder, [files[1], files[0], files[2]])
    with pytest.raises(ValueError, match="fold0/model_final.pth was not trained .* dataset.leave_out=0/2, in the"):
        make_distiller(folder, files[:2])  # of two folds
    everything, own = split_hash(DatasetCatalog.get("pets"), CLASSES), (folder / "fold2/inputs.json").read_text()
    (folder / "fold2/inputs.json").write_text(json.dumps({**json.loads(own), "earlier": everything}))
    with pytest.raises(ValueError, match="fold2/model_final.pth was not trained on the images of pets without fold 2"):
        make_distiller(folder)
    (folder / "fold2/inputs.json").write_text(json.dumps({"dataset.train": everything}))
    with pytest.raises(ValueError, match="fold2/model_final.pth was not trained on the images of pets without fold 2"):
        make_distiller(folder)
    (folder / "fold2/inputs.json").unlink()
    with pytest.raises(ValueError, match="fold2/model_final.pth: what it was trained on cannot be read .*inputs.json"):
        make_distiller(folder)


def test_one_teacher_of_a_fold_alone_is_an_error(folder):
    (folder / "fold0/config.yaml").write_text("dataset: {leave_out: 0/3}")
    with pytest.raises(ValueError, match="fold0/model_final.pth was trained with dataset.leave_out=0/3: give"):
        make_distiller(folder, checkpoints(folder)[0])
    for other in ("dataset: {leave_out: null}", "- 1", "a: !!python/tuple [1]", "{"):  # also of other projects
        (folder / "fold0/config.yaml").write_text(other)
        make_distiller(folder, checkpoints(folder)[0])


def test_weights_that_do_not_fit_name_the_key(folder):
    files = checkpoints(folder)
    state = torch.load(files[0], weights_only=True)
    state["model"]["refinement.0.weight"] = torch.zeros(1)
    torch.save(state, files[0])
    text = "fold0/model_final.pth does not have the refinement branches .*: set it as in the training of this file$"
    with pytest.raises(CheckpointError, match=f"^distiller.teacher_checkpoint: .*{text}"):
        make_distiller(folder)
    torch.save({"model": {"w": torch.zeros(1)}}, files[0])
    with pytest.raises(CheckpointError, match="^distiller.teacher_checkpoint: .* does not fit the model"):
        make_distiller(folder)


def test_several_teachers_without_a_cache_are_an_error(folder):
    with pytest.raises(ValueError, match="has 3 files, one for each fold .*distiller.use_cache=True"):
        make_distiller(folder, use_cache=False)


def test_each_teacher_is_checked(folder):
    distiller, seen = make_distiller(folder), []
    optimizer = torch.optim.SGD(distiller.parameters(), lr=0.1)
    trainer = DistillTrainer(distiller, [], optimizer, teacher_check=lambda x: seen.append(x.cls_branch.bias.clone()))
    trainer.train(0, 0)
    saved = [torch.load(file, weights_only=True)["model"]["cls_branch.bias"] for file in checkpoints(folder)]
    assert all(map(torch.equal, seen, saved)) and len(seen) == FOLDS


@pytest.mark.parametrize("use_cache", [False, True])
def test_the_mean_of_two_maps_and_the_scores_of_the_teacher(folder, use_cache):
    files = checkpoints(folder)
    distiller = make_distiller(folder, files[0], trunk_checkpoint=files[1], use_cache=use_cache)
    images = build_test_loader("pets", mapper=make_mapper(cached=False), proposals=str(folder / "proposals.arrow"))
    views = [images.dataset[i]["teacher"] for i in range(IMAGES)]
    if use_cache:
        distiller.fill_cache()
        found = distiller.cache.read(views, ["conv2"], torch.device("cpu"))
    else:
        found = distiller.run_teacher(views)
    first, second = (make_distiller(folder, file).run_teacher(views) for file in files[:2])
    expected = (first.features["conv2"] + second.features["conv2"]) / 2
    half_step = (expected.max() - expected.min()).item() / 508  # 8 bits
    torch.testing.assert_close(found.features["conv2"], expected, rtol=1e-5, atol=half_step if use_cache else 1e-6)
    assert (expected - first.features["conv2"]).abs().max() > 0.05
    for ours, theirs in zip(found.cls_logits, first.cls_logits):
        atol = theirs.abs().max().item() / 254 if use_cache else 1e-6
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=atol)
    assert not any(p.requires_grad for p in distiller.teachers.trunk.parameters())
    assert {key.split(".")[0] for key in distiller.state_dict()} == {"student", "objectives"}


def test_the_cache_of_another_trunk_is_an_error(folder):
    files = checkpoints(folder)
    make_distiller(folder, trunk_checkpoint=files[1]).fill_cache()
    for other in (None, files[2]):
        with pytest.raises(StaleCacheError, match="built with another trunk"):
            make_distiller(folder, trunk_checkpoint=other).fill_cache()
