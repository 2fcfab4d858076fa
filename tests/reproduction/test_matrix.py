"""Which runs a table takes, what each needs and overrides; nothing is trained here."""

from pathlib import Path

import pytest
from helpers.builders import own_images

from wsd_distill.reproduction.matrix import Detector, RunPlan, config_file
from wsd_distill.reproduction.recipes import COMPARISON, RECIPES, ROWS
from wsd_distill.reproduction.runs import missing

ROOT = Path(__file__).parents[2]


@pytest.fixture
def folder(tmp_path, monkeypatch, restore_catalogs):
    """Stores are looked for in its ``data``."""
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path / "data"))
    return tmp_path


def plan(folder, tables, dataset="digit_scenes", seeds=1, **options):
    """name -> run, of what is missing for these tables."""
    matrix = RunPlan(ROOT, dataset, folder / "out", **options)
    return {run.name: run for run in missing(matrix.goals([r for t in tables for r in ROWS[t].values()], seeds))}


def needs(run):
    return {needed.name.split("/")[-1] for needed in run.needs}


def overrides(run):
    return dict(word.split("=", 1) for word in run.command if "=" in word)


def test_only_what_a_table_needs_and_once_for_all_seeds(folder):
    names = ["proposals_edge_boxes"]
    names += [f"seed{s}/{name}" for s in (0, 1) for name in ("teacher", "stage1", "stage2", "student", "student_long")]
    assert sorted(plan(folder, [3], seeds=2)) == sorted(names)
    assert sorted(plan(folder, [3], seeds=2)) == sorted(
        run.name for run in missing(RunPlan(ROOT, "digit_scenes", folder / "out").goals(COMPARISON.values(), 2))
    )


def test_all_tables_share_teacher_baseline_and_stages(folder):
    """18 trainings a seed, the two proposal stores and the detector."""
    runs = plan(folder, [1, 2, 3, 4, 5], seeds=2)
    assert len(runs) == 2 * 18 + 3 == 2 * len(RECIPES) + 3
    assert len({tuple(run.command) for run in runs.values()}) == len(runs)
    students = [name for name in RECIPES if "teacher" in needs(runs[f"seed1/{name}"])]
    assert len(students) == 18 - 2 - 3 - 1  # not the two plain ones, nor the detector's three, nor itself
    for name in students:
        path = folder / "out" / "seed1" / "teacher" / "model_final.pth"
        assert overrides(runs[f"seed1/{name}"])["distiller.teacher_checkpoint"] == f'"{path}"'


@pytest.mark.parametrize(
    "name, needed, start",
    [
        ("stage2", {"proposals_edge_boxes", "teacher", "stage1"}, "stage1"),
        ("soft_labels", {"proposals_edge_boxes", "teacher"}, None),
        ("attention_transfer", {"proposals_edge_boxes", "teacher"}, None),
        ("fitnets_hint", {"proposals_edge_boxes", "teacher"}, None),
        ("fitnets", {"proposals_edge_boxes", "teacher", "fitnets_hint"}, "fitnets_hint"),
        ("roi_nms_stage2", {"proposals_edge_boxes", "teacher", "roi_nms"}, "roi_nms"),
        ("temperatures_fixed", {"proposals_edge_boxes", "teacher", "stage1"}, "stage1"),
        ("stage2_detector", {"proposals_detector", "teacher_detector", "stage1_detector"}, "stage1_detector"),
        ("student", set(), None),
    ],
)
def test_what_a_run_needs_and_starts_from(folder, name, needed, start):
    run = RunPlan(ROOT, "digit_scenes", folder / "out").training(name, 0)
    assert needs(run) == needed
    weights = f'"{folder}/out/seed0/{start}/model_final.pth"' if start else None
    assert overrides(run).get("train.init_checkpoint") == weights
    assert overrides(run)["train.seed"] == "0" and overrides(run)["train.output_dir"] == f'"{run.output}"'


def test_iterations_are_those_of_stage_2_of_stage_1_or_of_both(folder):
    """8 and 12 epochs of 3,000 scenes / 16, whatever the configs of the other methods say."""
    runs = plan(folder, [1, 4])
    iterations = {
        name: overrides(runs[f"seed0/{name}"]).get("train.max_iter") for name in RECIPES if f"seed0/{name}" in runs
    }
    assert {name for name, value in iterations.items() if value == "2250"} == {
        "student",
        "soft_labels",
        "fitnets",
        "attention_transfer",
    }
    assert (iterations["student_long"], iterations["fitnets_hint"]) == ("3750", "1500")
    assert {name for name, value in iterations.items() if value is None} >= {
        "teacher",
        "stage1",
        "stage2",
        "class_aware",
    }


def test_class_aware_alone_starts_as_the_student_does(folder):
    run = plan(folder, [4], dataset="voc5")["seed0/class_aware"]
    assert overrides(run)["train.init_checkpoint"] == '"pretrained://tf_efficientnet_lite0"'
    assert run.command[run.command.index("--config-file") + 1].endswith("voc5/stage2.py")
    assert overrides(plan(folder, [4])["seed0/class_aware"])["train.init_checkpoint"] == '""'


def test_the_detector_is_trained_once_and_makes_the_proposals_of_table_5(folder):
    runs = plan(folder, [5], seeds=2)
    detector, proposals = runs["detector"], runs["proposals_detector"]
    assert proposals.needs == [detector] and overrides(detector)["train.seed"] == "0"
    given = proposals.command[proposals.command.index("--method") :]
    config = str(ROOT / "configs/digit_scenes/faster_rcnn.py")
    assert given == ["--method", "detector", "--detector-config", config, "--weights", str(detector.weights)]
    stores = [str(path.relative_to(folder)) for path in proposals.results]
    assert stores == [f"data/proposals/digit_scenes_{split}_detector.arrow" for split in ("train", "val", "test")]
    for seed in (0, 1):
        teacher = runs[f"seed{seed}/teacher_detector"]
        assert teacher.needs == [proposals] and overrides(teacher)["proposals.method"] == "detector"


def test_stores_that_are_there_need_no_detector(folder):
    (folder / "data/proposals").mkdir(parents=True)
    for split in ("train", "val", "test"):
        (folder / f"data/proposals/digit_scenes_{split}_detector.arrow").touch()
    runs = plan(folder, [5])
    assert "detector" not in runs and "proposals_detector" not in runs and "seed0/teacher_detector" in runs


def test_configs_of_the_paper_have_backbone_and_proposals_in_their_names(folder):
    runs = plan(folder, [5], dataset="coco", detector=Detector("detector.yaml", "detector.pth"))
    files = {name: Path(run.command[run.command.index("--config-file") + 1]).name for name, run in runs.items()}
    assert files["seed0/teacher"] == "teacher_vgg16_edgeboxes.py" and files["seed0/student"] == "student_vgg16.py"
    assert files["seed0/stage2_detector"] == "stage2_vgg16_fasterrcnn.py"
    assert runs["proposals_detector"].command[-4:] == [
        "--detector-config",
        "detector.yaml",
        "--weights",
        "detector.pth",
    ]
    assert runs["proposals_edge_boxes"].command[-2:] == ["--config-file", str(ROOT / "configs/coco/data.py")]
    with pytest.raises(FileNotFoundError, match="--detector-config"):
        plan(folder, [5], dataset="coco")
    with pytest.raises(FileNotFoundError, match="no config nothing.py or nothing_vgg16.py"):
        config_file(ROOT / "configs/coco", "nothing")


def test_a_method_that_is_not_the_configs_own_generator_is_named(folder):
    runs = plan(folder, [3], dataset="coco", opts=["proposals.method=selective_search"])
    assert runs["proposals_selective_search"].command[-2:] == ["--method", "selective_search"]
    (folder / "configs/own").mkdir(parents=True)
    (folder / "configs/common").symlink_to(ROOT / "configs/common")
    (folder / "configs/own/data.py").write_text(
        "from ..common.data import dataset, proposals\ndataset.update(train='a', val='b', test='c')\n"
    )
    assert RunPlan(folder, "own").proposals("edge_boxes").command[-2:] == [
        "--method",
        "edge_boxes",
    ]  # no image_proposals


def test_overrides_of_the_user_reach_every_config_that_has_their_key(folder):
    (folder / "pets.csv").write_text("file,labels\n0.png,cat;dog\n")
    opts = own_images(folder / "pets.csv")
    runs = plan(folder, [3], dataset="image_list", opts=[*opts, "train.max_iter=7"])
    assert all(set(opts) <= set(run.command) for run in runs.values())
    assert "train.max_iter=7" in runs["seed0/teacher"].command
    assert "train.max_iter=7" not in runs["proposals_edge_boxes"].command
    assert overrides(runs["seed0/student_long"])["train.max_iter"] == "14"  # the last of two; 7 of each stage
    assert runs["proposals_edge_boxes"].results[0] == folder / "data/proposals/pets_train_edge_boxes.arrow"
    assert RunPlan(ROOT, "image_list", opts=opts).output == Path("output/pets").resolve()
    with pytest.raises(ValueError, match="--opts train.max_itr=7"):
        plan(folder, [3], opts=["train.max_itr=7"])


def test_a_detector_or_generator_that_is_asked_for_is_compared_with_the_stores_that_are_there(folder):
    (folder / "data/proposals").mkdir(parents=True)
    for split in ("train", "val", "test"):
        for method in ("detector", "edge_boxes"):
            (folder / f"data/proposals/digit_scenes_{split}_{method}.arrow").touch()
    runs = plan(folder, [5], detector=Detector("detector.yaml", "detector.pth"))
    assert runs["proposals_detector"].check and runs["proposals_detector"].command[-1] == "detector.pth"
    assert runs["seed0/teacher_detector"].needs == [runs["proposals_detector"]]
    assert "proposals_edge_boxes" not in runs
    assert plan(folder, [3], opts=["image_proposals.proposer.alpha=0.65"])["proposals_edge_boxes"].check


@pytest.mark.parametrize("opt", ["proposals.train=other.arrow", "dataloader.train.proposals=other.arrow"])
def test_other_proposals_are_not_those_of_the_detectors_runs(folder, opt):
    runs = plan(folder, [5], opts=[opt])
    assert all(opt in runs[f"seed0/{name}"].command for name in ("teacher", "stage1", "stage2"))
    assert not any(opt in runs[f"seed0/{name}_detector"].command for name in ("teacher", "stage1", "stage2"))
