import pytest
from helpers.builders import own_images
from helpers.running import in_process, run
from PIL import Image

CHECK = ["tools/check_dataset.py", "--config-file", "configs/efficientnet_lite0/student.py", "--num-workers", "0"]


def test_own_images(tmp_path):
    for number in range(3):
        Image.new("RGB", (30, 20), (number, 0, 0)).save(tmp_path / f"{number}.png")
        (tmp_path / f"{number}.csv").write_text(f"file,labels\n{number}.png,cat\n")
    (tmp_path / "2.png").write_bytes((tmp_path / "1.png").read_bytes())
    own = own_images(*(tmp_path / f"{number}.csv" for number in range(3)))
    done = run(*CHECK, *own, data=tmp_path, check=False)
    assert done.returncode == 1, done.stderr[-2000:]
    assert "pets_train: 1 images, 1 labels" in done.stdout
    assert f"ERROR {tmp_path}/2.png of pets_test is also in pets_val, as {tmp_path}/1.png" in done.stdout
    assert done.stdout.endswith("1 errors\n")
    done = run(*CHECK, "--dataset", "pets_train", "pets_val", *own, data=tmp_path)
    assert done.stdout.endswith("OK\n")


@pytest.mark.parametrize(
    "files, message",
    [
        ([], "dataset.name=pets: no such dataset; known: "),
        (own_images("gone.csv"), "gone.csv is missing: see datasets/README.md"),
        (own_images("{}/empty.txt"), "empty.txt: the list of classes is empty"),
    ],
)
def test_missing_or_invalid_training_list_is_reported(tmp_path, files, message, capsys, restore_catalogs):
    (tmp_path / "empty.txt").write_text("")
    files = [file.format(tmp_path) for file in files]
    with pytest.raises(SystemExit) as caught:
        in_process(*CHECK, "dataset.name=pets", *files)
    *_, last = capsys.readouterr().err.splitlines()
    assert last.startswith("check_dataset.py: error: ") and message in last
    assert caught.value.code == 2
