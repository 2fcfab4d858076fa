import os
import subprocess
import sys
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).parent.parent.parent


def test_a_users_own_images(tmp_path):
    for number in range(3):
        Image.new("RGB", (30, 20), (number, 0, 0)).save(tmp_path / f"{number}.png")
        (tmp_path / f"{number}.csv").write_text(f"file,labels\n{number}.png,cat\n")
    (tmp_path / "2.png").write_bytes((tmp_path / "1.png").read_bytes())
    files = [f"dataset.files.{split}={tmp_path}/{i}.csv" for i, split in enumerate(("train", "val", "test"))]
    command = [sys.executable, "-W", "ignore", "tools/check_dataset.py", "--config-file", "configs/image_list/data.py"]
    command += ["--num-workers", "0", "dataset.name=pets", *files]
    done = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": str(ROOT)}, cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 1, done.stderr[-2000:]
    assert "pets_train: 1 images, 1 labels" in done.stdout
    assert f"FAULT {tmp_path}/2.png of pets_test is in pets_val too, as {tmp_path}/1.png" in done.stdout
    assert done.stdout.endswith("1 faults\n")
    done = subprocess.run(
        [*command, "pets_train", "pets_val"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "all is well"), done.stderr[-2000:]
