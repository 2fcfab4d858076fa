"""Dependencies and overrides of the runs that a table shows; nothing is trained."""

from pathlib import Path

import pytest
from helpers.builders import own_images
from helpers.recipes import use_recipes

from wsd_distill.pipeline.experiments import COMPARISON, TRAININGS, get_trainings
from wsd_distill.pipeline.plan import RunPlan, record_settings
from wsd_distill.pipeline.scheduler import find_missing

ROOT = Path(__file__).parents[2]
DETECTOR = ("detector.yaml", "detector.pth")


@pytest.fixture
def folder(tmp_path, monkeypatch, restore_catalogs):
    """A repository; proposal stores are in its ``data``."""
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path / "data"))
    use_recipes(tmp_path, monkeypatch)
    return tmp_path


def make_plan(folder, dataset="digit_scenes", **options):
    return RunPlan(folder, dataset, output=folder / "out", **options)


def missing_runs(folder, tables, dataset="digit_scenes", seeds=1, **options):
    """Name -> run."""
    plan = make_plan(folder, dataset, **options)
    return {run.name: run for run in find_missing(plan.targets(get_trainings(tables), seeds))}


def dependencies(run):
    return {dependency.name.split("/")[-1] for dependency in run.dependencies}


def overrides(run):
    return dict(word.split("=", 1) for word in run.command if "=" in word)


def config_file(run):
    return Path(run.command[run.command.index("--config-file") + 1])


def make_stores(folder, dataset, *methods):
    (folder / "data/proposals").mkdir(parents=True)
    for split in ("train", "val", "test"):
        for method in methods:
            (folder / f"data/proposals/{dataset}_{split}_{method}.arrow").touch()


def test_only_the_dependencies_of_a_table_and_once_per_seed(folder):
    names = ["proposals_edge_boxes"]
    names += [f"seed{s}/{name}" for s in (0, 1) for name in ("teacher", "stage1", "stage2", "student", "student_long")]
    assert sorted(missing_runs(folder, [3], seeds=2)) == sorted(names)
    comparison = find_missing(make_plan(folder).targets(COMPARISON.values(), 2))
    assert sorted(missing_runs(folder, [3], seeds=2)) == sorted(run.name for run in comparison)


def test_all_tables_share_teacher_baseline_and_stages(folder):
    """20 trainings a seed, the two proposal stores and the detector."""
    runs = missing_runs(folder, [1, 2, 3, 4, 5], seeds=2)
    assert len(runs) == 2 * 20 + 3
    assert len({tuple(run.command) for run in runs.values()}) == len(runs)
    students = [
        name for name in TRAININGS if f"seed1/{name}" in runs and "teacher" in dependencies(runs[f"seed1/{name}"])
    ]
    assert len(students) == 20 - 2 - 3 - 1  # without the plain students, the detector's trainings, the teacher
    for name in students:
        path = folder / "out" / "seed1" / "teacher" / "model_final.pth"
        assert overrides(runs[f"seed1/{name}"])["distiller.teacher_checkpoint"] == f'"{path}"'


@pytest.mark.parametrize(
    "name, expected, start",
    [
        ("stage2", {"proposals_edge_boxes", "teacher", "stage1"}, "stage1"),
        ("soft_labels", {"proposals_edge_boxes", "teacher"}, None),
        ("attention_transfer", {"proposals_edge_boxes", "teacher"}, None),
        ("l2d", {"proposals_edge_boxes", "teacher"}, None),
        ("fitnets_hint", {"proposals_edge_boxes", "teacher"}, None),
        ("fitnets", {"proposals_edge_boxes", "teacher", "fitnets_hint"}, "fitnets_hint"),
        ("roi_nms_stage2", {"proposals_edge_boxes", "teacher", "roi_nms"}, "roi_nms"),
        ("temperatures_fixed", {"proposals_edge_boxes", "teacher", "stage1"}, "stage1"),
        ("stage2_detector", {"proposals_detector", "teacher_detector", "stage1_detector"}, "stage1_detector"),
        ("student", set(), None),
    ],
)
def test_dependencies_and_initial_checkpoint(folder, name, expected, start):
    run = make_plan(folder).training(name, 0)
    assert dependencies(run) == expected
    weights = f'"{folder}/out/seed0/{start}/model_final.pth"' if start else None
    assert overrides(run).get("train.init_checkpoint") == weights
    assert overrides(run)["train.seed"] == "0" and overrides(run)["train.output_dir"] == f'"{run.folder}"'
    assert overrides(run)["train.root"] == f'"{folder}/out"'  # caches of two outputs are apart


def test_epochs_of_stage_2_of_stage_1_or_of_both(folder):
    """8 and 12, whatever the configs of the other methods have."""
    runs = missing_runs(folder, [1, 4])
    planned = {name: runs[f"seed0/{name}"] for name in TRAININGS if f"seed0/{name}" in runs}
    epochs = {name: overrides(run).get("train.epochs") for name, run in planned.items()}
    assert {name for name, value in epochs.items() if value == "12.0"} == {
        "student",
        "soft_labels",
        "fitnets",
        "attention_transfer",
        "l2d",
        "feature_distillation",
    }
    assert (epochs["student_long"], epochs["fitnets_hint"]) == ("20.0", "8.0")
    assert {name for name, value in epochs.items() if value is None} >= {"teacher", "stage1", "stage2", "class_aware"}


def test_class_aware_alone_starts_like_the_student(folder):
    run = missing_runs(folder, [4], dataset="voc5")["seed0/class_aware"]
    assert overrides(run)["train.init_checkpoint"] == '"pretrained://efficientnet_lite0"'
    assert config_file(run) == folder / "configs/efficientnet_lite0/stage2.py"
    assert overrides(missing_runs(folder, [4])["seed0/class_aware"])["train.init_checkpoint"] == '""'


def test_the_detector_is_trained_once_and_makes_the_proposals_of_table_5(folder):
    runs = missing_runs(folder, [5], seeds=2)
    detector, proposals = runs["detector"], runs["proposals_detector"]
    assert proposals.dependencies == [detector] and overrides(detector)["train.seed"] == "0"
    assert config_file(detector) == folder / "configs/small/faster_rcnn.py"
    given = {
        "proposals.method": "detector",
        "detector.config": f'"{folder}/out/detector/config.yaml"',
        "detector.weights": f'"{detector.weights}"',
    }
    assert overrides(proposals) == {"dataset.name": "digit_scenes", **given}
    stores = [str(path.relative_to(folder)) for path in proposals.results]
    assert stores == [f"data/proposals/digit_scenes_{split}_detector.arrow" for split in ("train", "val", "test")]
    for seed in (0, 1):
        teacher = runs[f"seed{seed}/teacher_detector"]
        assert teacher.dependencies == [proposals] and given.items() <= overrides(teacher).items()
    assert "detector.config" not in overrides(runs["seed0/teacher"])


def test_existing_stores_need_no_detector(folder):
    make_stores(folder, "digit_scenes", "detector")
    runs = missing_runs(folder, [5])
    assert "detector" not in runs and "proposals_detector" not in runs and "seed0/teacher_detector" in runs
    assert overrides(runs["seed0/teacher_detector"])["proposals.method"] == "detector"


def test_recipe_of_the_dataset_or_a_given_one(folder):
    runs = missing_runs(folder, [5], dataset="coco_2014", detector=DETECTOR)
    assert config_file(runs["seed0/teacher"]) == folder / "configs/vgg16/teacher.py"
    assert config_file(runs["seed0/stage2_detector"]) == folder / "configs/vgg16/stage2.py"
    expected = ["proposals.method=detector", 'detector.config="detector.yaml"', 'detector.weights="detector.pth"']
    assert runs["proposals_detector"].command[-3:] == expected
    assert runs["proposals_edge_boxes"].command[1:] == [
        str(folder / "tools/generate_proposals.py"),
        "--config-file",
        str(folder / "configs/vgg16/teacher.py"),
        "dataset.name=coco_2014",
        "proposals.method=edge_boxes",
    ]
    with pytest.raises(FileNotFoundError, match="--detector-config"):
        missing_runs(folder, [5], dataset="coco_2014")
    runs = missing_runs(folder, [5], dataset="coco_2014", recipe="efficientnet_lite0")
    assert config_file(runs["detector"]) == folder / "configs/efficientnet_lite0/faster_rcnn.py"
    with pytest.raises(FileNotFoundError, match="configs/nothing/teacher.py does not exist: choose another --recipe: "):
        make_plan(folder, recipe="nothing")


def test_another_proposal_method(folder):
    runs = missing_runs(folder, [3], dataset="coco_2014", opts=["proposals.method=selective_search"])
    assert runs["proposals_selective_search"].command[-1] == "proposals.method=selective_search"
    assert overrides(runs["seed0/stage1"])["proposals.method"] == "selective_search"


def test_overrides_of_the_user_reach_every_config_with_their_key(folder):
    opts = own_images("train.csv")[1:]
    runs = missing_runs(folder, [3], dataset="pets", opts=[*opts, "train.epochs=7"])
    assert all({"dataset.name=pets", *opts} <= set(run.command) for run in runs.values())
    assert config_file(runs["seed0/teacher"]) == folder / "configs/efficientnet_lite0/teacher.py"
    assert "train.epochs=7" in runs["seed0/teacher"].command
    assert overrides(runs["seed0/student_long"])["train.epochs"] == "14"  # the last of two; 7 of each stage
    assert runs["proposals_edge_boxes"].results[0] == folder / "data/proposals/pets_train_edge_boxes.arrow"
    assert RunPlan(folder, "pets", opts=opts).output == Path("output/pets").resolve()
    with pytest.raises(ValueError, match="^train.max_itr=7: no config of these runs has this key"):
        missing_runs(folder, [3], opts=["train.max_itr=7"])


def test_unlabelled_images_are_for_distillations_and_have_one_store(tmp_path, monkeypatch, restore_catalogs):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path / "data"))
    (tmp_path / "list.csv").write_text("file,labels\n0.png,cat\n1.png,dog\n")
    (tmp_path / "more").mkdir()
    (tmp_path / "more/0.png").touch()
    opts = [*own_images(tmp_path / "list.csv")[1:], f"dataset.files.unlabelled={tmp_path}/more"]
    plan = RunPlan(ROOT, "pets", output=tmp_path / "out", opts=opts)
    runs = {run.name: run for run in find_missing(plan.targets(get_trainings([3]), 1))}
    used = {name for name, run in runs.items() if opts[-1] in run.command}
    assert used == {"proposals_edge_boxes", "seed0/stage1", "seed0/stage2"}
    store = tmp_path / "data/proposals/pets_train_with_pets_unlabelled_edge_boxes.arrow"
    assert runs["proposals_edge_boxes"].results[0] == store
    assert config_file(runs["proposals_edge_boxes"]).name == "stage2.py"
    for name in ("teacher", "stage1", "stage2"):
        assert overrides(runs[f"seed0/{name}"])["proposals.train"] == f'"{store}"'
    assert "proposals.train" not in overrides(runs["seed0/student"])


def test_mixing_is_for_all_but_the_teacher(tmp_path):
    plan = RunPlan(ROOT, "digit_scenes", output=tmp_path, opts=["dataloader.train.mix.mixup=0.4"])
    runs = {run.name: run for run in find_missing(plan.targets(get_trainings([3]), 1))}
    mixed = [name for name, run in runs.items() if "dataloader.train.mix.mixup=0.4" in run.command]
    assert mixed == [name for name in runs if name.startswith("seed0/") and name != "seed0/teacher"]
    assert "seed0/teacher" in runs and len(mixed) > 2


def test_an_override_of_some_configs_reaches_only_these(folder):
    with open(folder / "configs/small/stage1.py", "a") as file:
        file.write("distiller = dict(use_cache=False)\n")
    runs = missing_runs(folder, [3], opts=["distiller.use_cache=True"])
    assert [name for name, run in runs.items() if "distiller.use_cache=True" in run.command] == ["seed0/stage1"]


def test_iterations_of_the_user_add_up_like_epochs(folder):
    runs = missing_runs(folder, [3], opts=["train.max_iter=7"])
    assert "train.max_iter=7" in runs["seed0/teacher"].command
    assert overrides(runs["seed0/student_long"])["train.max_iter"] == "14"


def test_a_given_detector_or_generator_is_checked_against_existing_stores(folder):
    make_stores(folder, "digit_scenes", "detector", "edge_boxes")
    runs = missing_runs(folder, [5], detector=DETECTOR)
    assert runs["proposals_detector"].check
    assert runs["proposals_detector"].command[-1] == 'detector.weights="detector.pth"'
    assert runs["seed0/teacher_detector"].dependencies == [runs["proposals_detector"]]
    assert "proposals_edge_boxes" not in runs
    assert missing_runs(folder, [3], opts=["image_proposals.proposer.alpha=0.65"])["proposals_edge_boxes"].check


@pytest.mark.parametrize("opt", ["proposals.train=other.arrow", "dataloader.train.proposals=other.arrow"])
def test_other_proposals_are_not_for_the_runs_with_a_detector(folder, opt):
    runs = missing_runs(folder, [5], opts=[opt])
    assert all(opt in runs[f"seed0/{name}"].command for name in ("teacher", "stage1", "stage2"))
    assert not any(opt in runs[f"seed0/{name}_detector"].command for name in ("teacher", "stage1", "stage2"))


def test_every_training_of_the_real_recipes(tmp_path, monkeypatch):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path / "data"))
    for dataset, recipe, size in (
        ("digit_scenes", "small", 28),  # without a trunk or a classifier as teacher
        ("voc5", "efficientnet_lite0", 33),
        ("coco_2014", "vgg16", 29),  # without a classifier as teacher, and the trunk at another size
    ):
        plan = RunPlan(ROOT, dataset, output=tmp_path, detector=DETECTOR if recipe == "vgg16" else None)
        runs = {run.name: run for run in find_missing(plan.targets(TRAININGS, 1))}
        assert plan.recipe == recipe and len(runs) == size
        lengths = {name: plan.load(name)[1].train.epochs for name in ("stage1", "stage2")}
        assert overrides(runs["seed0/student_long"])["train.epochs"] == str(sum(lengths.values()))
        assert config_file(runs["seed0/stage2"]) == ROOT / f"configs/{recipe}/stage2.py"
        assert all(path.parent == tmp_path / "data/proposals" for path in runs["proposals_edge_boxes"].results)
    with pytest.raises(KeyError, match="dataset.name=voc6: no such dataset; did you mean voc5"):
        RunPlan(ROOT, "voc6")


def test_a_cross_fitted_student_follows_the_teachers_of_all_folds(tmp_path, monkeypatch):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path / "data"))
    plan = RunPlan(ROOT, "voc5", output=tmp_path)
    run = plan.training("region_consistent_crossfit", 1)
    assert config_file(run) == ROOT / "configs/efficientnet_lite0/region_consistent.py"
    assert dependencies(run) == {"proposals_edge_boxes", "teacher_fold0", "teacher_fold1", "teacher_fold2"}
    files = [f"{tmp_path}/seed1/teacher_fold{i}/model_final.pth" for i in range(3)]
    assert overrides(run)["distiller.teacher_checkpoint"] == "[" + ",".join(f'"{file}"' for file in files) + "]"
    assert [overrides(teacher).get("dataset.leave_out") for teacher in run.dependencies] == [None, "0/3", "1/3", "2/3"]


def test_runs_on_a_part_of_the_training_images_are_of_the_same_dataset(folder):
    plan = make_plan(folder)
    config = plan.output / "seed0/teacher_fold1/config.yaml"
    config.parent.mkdir(parents=True)
    config.write_text('dataset: {train: digit_scenes_train_without_1_of_3, leave_out: "1/3"}')
    record_settings(plan, None, write=False)
    config.write_text("dataset: {train: digit_scenes_train_without_1_of_3}")
    with pytest.raises(SystemExit, match="was trained on digit_scenes_train_without_1_of_3, not digit_scenes_train"):
        record_settings(plan, None, write=False)


def test_near_keys_of_a_wrong_override_are_those_of_all_configs(folder):
    """``dataset.name`` of the first config is near too, but less than the key that only the last one has."""
    file = folder / "configs/small/stage2.py"
    file.write_text(file.read_text() + 'dataset["namesake"] = 1\n')
    with pytest.raises(ValueError, match=r"this key; did you mean dataset\.namesake or dataset\.name"):
        make_plan(folder, opts=["dataset.namesakes=2"]).targets(["student", "stage2"], 1)
