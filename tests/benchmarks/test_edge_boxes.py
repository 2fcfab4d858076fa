from detectron2.structures import BoxMode
from helpers.benchmarks import load_benchmark
from PIL import Image, ImageDraw


def test_recall_and_time_of_each_setting(tmp_path):
    image = Image.new("RGB", (200, 160), "white")
    ImageDraw.Draw(image).rectangle((60, 40, 139, 119), fill="navy")
    image.save(tmp_path / "square.png")
    square = {"bbox": [60, 40, 140, 120], "bbox_mode": BoxMode.XYXY_ABS}
    outside = {"bbox": [0, 0, 3, 3], "bbox_mode": BoxMode.XYXY_ABS}
    record = {"file_name": str(tmp_path / "square.png"), "image_id": "1", "annotations": [square, outside]}
    rows = load_benchmark("edge_boxes")["measure"]([record], {"a": {"sides": [200]}, "b": {"max_boxes": 1}})
    assert [row[0] for row in rows] == ["a", "b"] and all(row[-1] > 0 for row in rows)
    assert rows[0][1:5] == [0.5] * 4  # one of two objects, at both limits and thresholds
