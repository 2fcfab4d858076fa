"""wsd audit: from the folder of wsd train to a page, a CSV, and tags that decisions change."""

import csv
import json

import numpy as np
import pytest
from PIL import Image

from wsd_distill.cli import main
from wsd_distill.pipeline import tagger_training

SMALL = ["train.student_size=64", "train.teacher_size=64", "train.max_iter=1", "train.device=cpu", "trainer.amp=False"]
SMALL += ["dataloader.train.num_workers=0", "dataloader.train.total_batch_size=4", "proposals.num_proposals=4"]
SMALL += ["train.init_checkpoint="]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """24 photos of noise with a rectangle, in red or blue, which is tagged cat or dog; one tag is unknown."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tagger_training, "CANDIDATES", tagger_training.CANDIDATES[:1])  # plain fine-tuning
    rng = np.random.default_rng(0)
    (tmp_path / "photos").mkdir()
    lines = ["file,labels"]
    for i in range(24):
        photo = Image.fromarray(rng.integers(90, 130, (60, 80, 3), np.uint8))
        photo.paste([(200, 60, 40), (40, 70, 210)][i % 2], (20, 20, 50, 45))
        photo.save(tmp_path / "photos" / f"{i}.png")
        lines.append(f"{i}.png,{['cat', 'dog'][i % 2]}{';?dog' if i == 0 else ''}")
    (tmp_path / "tags.csv").write_text("\n".join(lines) + "\n")
    return tmp_path


def test_from_a_tagger_to_decisions(folder, capsys, restore_catalogs):
    train = ["train", "tags.csv", "--images", "photos", "--set", *SMALL]
    assert main([*train, "--out", "pets"]) == 0, capsys.readouterr().err
    audit = ["audit", "pets", "--out", "suspects.html", "--top", "60"]
    assert main(audit) == 0, capsys.readouterr().err
    printed = capsys.readouterr().out
    assert "mean of all 3" in printed and "47 suspects" in printed  # 24 photos, 2 classes, one unknown
    for fold in range(3):
        results = json.loads((folder / f"pets/runs/seed0/teacher_fold{fold}/results.json").read_text())
        assert set(results["val"]) >= {"multilabel"}
    with open("suspects.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert ("0.png", "dog") not in {(row["file"], row["label"]) for row in rows} and len(rows) == 47
    assert {row["split"] for row in rows} == {"train", "val", "test"}
    for row in rows:
        x1, y1, x2, y2 = (float(row[name]) for name in ("x1", "y1", "x2", "y2"))
        assert 0 <= x1 < x2 <= 80 and 0 <= y1 < y2 <= 60
    assert (folder / "suspects.html").read_text().count("<article") == 47
    parts = {path: path.stat().st_mtime_ns for path in (folder / "pets/audit").iterdir()}
    logs = {path: path.stat().st_mtime_ns for path in (folder / "pets/runs/seed0").glob("*/stdout.txt")}
    assert main(audit) == 0  # nothing is trained or scored again
    assert all(path.stat().st_mtime_ns == before for path, before in {**parts, **logs}.items())
    assert main([*audit, "--set", "train.tecaher_size=64"]) == 2
    assert "train.tecaher_size=64: no config of these runs has this key; did you mean" in capsys.readouterr().err
    present = next(row for row in rows if row["tag"] == "present" and row["split"] == "train")
    present["decision"] = "remove"
    with open("decisions.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    capsys.readouterr()
    assert main(["check", "tags.csv", "--images", "photos", "--decisions", "decisions.csv"]) in (0, 1)
    assert "1 decisions were applied (0 keep, 1 remove, 0 add, 0 unknown)" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["pets", "--out", "a.html"], "pets has no plan.json: give the --out folder of wsd train"),
        (["pets", "--out", "a.csv"], "--out a.csv: give a file that ends in .html"),
        (["pets", "--out", "a.html", "--top", "0"], "--top 0: give a number of suspects from 1 on"),
    ],
)
def test_wrong_arguments(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert main(["audit", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_wrong_decisions_end_wsd_train(folder, capsys):
    (folder / "decisions.csv").write_text("file,label,decision\n1.png,cat,remove\n")
    assert main(["train", "tags.csv", "--images", "photos", "--out", "pets", "--decisions", "decisions.csv"]) == 2
    assert "decisions.csv, line 2: 'remove', but 'cat' is absent in the tags of '1.png'" in capsys.readouterr().err
