import pytest
from helpers.builders import own_images
from helpers.running import in_process, run
from PIL import Image

CHECK = ["tools/check_dataset.py", "--config-file", "configs/efficientnet_lite0/student.py", "--num-workers", "0"]


@pytest.fixture
def photos(tmp_path):
    """Twelve photos per split with the labels cat and dog; returns the overrides."""
    for number, split in enumerate(("train", "val", "test")):
        rows = ["file,labels"]
        for i in range(12):
            Image.new("RGB", (30, 20), (number, i, 0)).save(tmp_path / f"{split}{i}.png")
            rows.append(f"{split}{i}.png,{'cat' if i % 2 else 'dog'}")
        (tmp_path / f"{split}.csv").write_text("\n".join(rows))
    return own_images(*(tmp_path / f"{split}.csv" for split in ("train", "val", "test")))


@pytest.fixture
def check(capsys, tmp_path, restore_catalogs):
    """Function: overrides -> exit code and lines of the tool."""

    def call(*overrides):
        with pytest.raises(SystemExit) as caught:
            in_process(*CHECK, "--faults", tmp_path / "faults.txt", *overrides)
        printed = capsys.readouterr()
        return caught.value.code, (printed.out or printed.err).splitlines()

    return call


def test_own_images(photos, tmp_path):
    (tmp_path / "test1.png").write_bytes((tmp_path / "val1.png").read_bytes())
    done = run(*CHECK, *photos, data=tmp_path, check=False)
    assert done.returncode == 1, done.stderr[-2000:]
    assert "pets_train: 12 images, 12 labels" in done.stdout
    detail = f"{tmp_path}/test1.png as {tmp_path}/val1.png"
    assert f"ERROR pets_test ({tmp_path}/test.csv): images are also in pets_val (1): {detail}\n" in done.stdout
    assert done.stdout.endswith("1 errors\n")


def test_sound_datasets(check, photos):
    code, lines = check("--dataset", "pets_train", "pets_val", *photos)
    assert (code, lines[-1]) == (0, "OK")


def test_a_wrong_folder_is_a_line_per_split(check, photos, tmp_path):
    code, lines = check(*photos, f"dataset.image_root={tmp_path}/elsewhere")
    errors = [line for line in lines if line.startswith("ERROR")]
    assert code == 1 and len(errors) == 3 and lines[-1] == "36 errors"
    assert errors[0].startswith(
        f"ERROR pets_train ({tmp_path}/train.csv): images are missing (see dataset.image_root) (12): {tmp_path}/elsewh"
    )
    assert errors[0].endswith("; and 7 more")
    assert len((tmp_path / "faults.txt").read_text().splitlines()) == 36


@pytest.mark.parametrize("recipe, level", [("student", "WARNING"), ("teacher", "ERROR")])
def test_one_class(check, photos, tmp_path, recipe, level):
    for split in ("train", "val", "test"):
        text = (tmp_path / f"{split}.csv").read_text()
        (tmp_path / f"{split}.csv").write_text(text.replace("dog", ""))
    code, lines = check("--config-file", f"configs/efficientnet_lite0/{recipe}.py", *photos)
    found = [line for line in lines if "one class only" in line]
    assert code == (level == "ERROR") and len(found) == 3
    assert found[0].startswith(f"{level} pets_train ({tmp_path}/train.csv): there is one class only, cat: ")


def test_few_positives_are_warnings(check, photos, tmp_path):
    (tmp_path / "val.csv").write_text("file,labels\nval0.png,cat\nval1.png,cat;dog\n")
    code, lines = check(*photos)
    assert code == 0 and lines[-4:-2] == [
        f"WARNING pets_val ({tmp_path}/val.csv): every image has cat: AP is 100 whatever is predicted",
        f"WARNING pets_val ({tmp_path}/val.csv): fewer than 5 images have cat, dog",
    ]
    assert lines[-1] == "2 warnings"


def test_joined_labels_are_named(check, photos, tmp_path):
    (tmp_path / "train.csv").write_text('file,labels\ntrain0.png,cat\ntrain1.png,"cat,dog"\n')
    code, lines = check(*photos)
    assert (
        code == 2 and f"{tmp_path}/train.csv: 1 of 2 labels look wrong: line 3: label 'cat,dog' contains" in lines[-1]
    )


@pytest.mark.parametrize(
    "files, message",
    [
        ([], "dataset.name=pets: no such dataset; known: "),
        (own_images("gone.csv"), "dataset.files.train=gone.csv is missing: set it to a list of images"),
        (own_images("{}/empty.csv"), "empty.csv is empty"),
        (own_images("{}/empty.txt"), "empty.txt: photos with tags are in a file of the type .csv, .tsv, .parquet"),
        ([*own_images("{}/empty.txt"), "dataset.classes={}/empty.txt"], "empty.txt: the list of classes is empty"),
        (
            ["dataset.files=list.csv"],
            "dataset.files=list.csv: give key: value pairs in braces or null",
        ),
        (['dataset.register=[{{_target_: builtins.int, base: "x"}}]'], "dataset.register: "),
    ],
)
def test_missing_or_invalid_training_list_is_reported(tmp_path, files, message, capsys, restore_catalogs):
    for name in ("empty.txt", "empty.csv"):
        (tmp_path / name).write_text("")
    files = [file.format(tmp_path) for file in files]
    with pytest.raises(SystemExit) as caught:
        in_process(*CHECK, "dataset.name=pets", *files)
    *_, last = capsys.readouterr().err.splitlines()
    assert last.startswith("check_dataset.py: error: ") and message in last
    assert caught.value.code == 2
