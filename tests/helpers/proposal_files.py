"""Three images with hand-made proposals, which every format must preserve."""

import numpy as np

RECORDS = [
    {"image_id": 10, "file_name": "photos/ten.jpg", "height": 30, "width": 40},
    {"image_id": 9, "file_name": "photos/nine.png", "height": 50, "width": 50},
    {"image_id": 100, "file_name": "photos/hundred.jpg", "height": 20, "width": 20},
]
BOXES = {  # image 100: the same score twice
    "10": ([[0, 0, 40, 30], [1.5, 2.5, 3.25, 4]], [0.75, 0.25]),
    "100": ([[1, 2, 3, 4], [5, 6, 7, 8], [0, 0, 20, 20]], [0.5, 0.5, 0.125]),
    "9": ([[10, 20, 30, 45]], [1.0]),
}


def rows():
    for record in sorted(RECORDS, key=lambda record: str(record["image_id"])):
        boxes, scores = BOXES[str(record["image_id"])]
        yield record, np.array(boxes, dtype=np.float32), np.array(scores, dtype=np.float32)


def content(source):
    """Of a ProposalFile, as lists, under the ids of RECORDS; scores are None where the file has none."""
    found = {}
    for record in RECORDS:
        boxes, scores = source[source.image_name(record)]
        found[str(record["image_id"])] = (source.to_xyxy(boxes).tolist(), None if scores is None else scores.tolist())
    assert len(source) == len(found)
    return found
