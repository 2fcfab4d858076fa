"""The pipeline on a local Ray; skipped where Ray is not installed."""

import io
import tarfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers.fake_tagger import FakeEvidence, FakeTagger, png
from helpers.running import ENVIRONMENT

from wsd_distill.predicting.run import Options

pytest.importorskip("ray")

from wsd_distill.predicting.cluster import count_blocks, predict_with_ray

pytestmark = pytest.mark.slow


@pytest.fixture
def photos(tmp_path, monkeypatch, ray_home):
    """Folder with 12 photos in a folder, 12 in a tar and 6 in a Parquet file; some are broken."""
    monkeypatch.setenv("PYTHONPATH", ENVIRONMENT["PYTHONPATH"])
    monkeypatch.setenv("HOME", str(ray_home))
    (tmp_path / "folder").mkdir()
    for i in range(12):
        (tmp_path / "folder" / f"{i:02d}.png").write_bytes(png(i * 20, 0, 0))
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for i in range(12):
            data = png(0, i * 20, 0) if i != 3 else b"text"
            member = tarfile.TarInfo(f"{i:02d}.png")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    pq.write_table(pa.table({"image": [png(0, 0, i * 20) for i in range(5)] + [None]}), tmp_path / "b.parquet")
    return tmp_path


def test_results_equal_those_of_one_process(photos):
    sources = [str(photos / name) for name in ("folder", "a.tar", "b.parquet")]
    options = Options(threshold=0.3, batch_size=4, on_error="skip", with_all=True)
    summary = predict_with_ray(FakeTagger, sources, None, str(photos / "out"), options, load_evidence=FakeEvidence)
    assert (summary.photos, summary.failed) == (30, 2)
    rows = {row["file"]: row for row in pq.read_table(photos / "out").to_pylist()}
    assert len(rows) == 30
    for i in range(12):
        row = rows[str(photos / "folder" / f"{i:02d}.png")]
        assert row["all"] == [pytest.approx(i * 20 / 255, abs=1e-6), 0, 0]
        assert row["labels"] == (["red"] if i * 20 / 255 >= 0.3 else [])
        assert [(box["label"], box["score"]) for box in row["boxes"]] == [(label, 0.25) for label in row["labels"]]
    assert rows[f"{photos}/a.tar/03.png"]["error"] == f"{photos}/a.tar/03.png: not an image"
    assert "row 5: column 'image' is empty" in rows[f"{photos}/b.parquet/5"]["error"]
    with pytest.raises(FileExistsError, match="out exists: delete it"):
        predict_with_ray(FakeTagger, sources, None, str(photos / "out"), options)
    with pytest.raises(ValueError, match=r"^\S*a.tar/03.png: not an image$"):
        predict_with_ray(FakeTagger, sources[1:2], None, str(photos / "other"), Options())
    assert not (photos / "other").exists()


def test_a_part_has_a_batch_of_photos_or_a_shard():
    photos = [f"{i}.jpg" for i in range(65)]
    assert count_blocks(photos, 32, 6) == 3
    assert count_blocks([*photos, "a.tar", "B.PARQUET"], 32, 6) == 5
    assert count_blocks([], 32, 6) == 1
    assert count_blocks(photos * 1000, 32, 6) == 200 and count_blocks(photos * 1000, 32, 500) == 500
