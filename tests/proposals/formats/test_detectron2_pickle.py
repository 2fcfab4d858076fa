import wsd_distill  # noqa: F401  (first: it patches Detectron2 0.6 for a current PyTorch)

# isort: split
import os
import pickle
from collections import OrderedDict, defaultdict

import numpy as np
import pytest
from detectron2.data.build import load_proposals_into_dataset
from detectron2.structures import BoxMode
from helpers.proposal_files import BOXES, RECORDS, content, rows

from wsd_distill.pickles import load_pickle
from wsd_distill.proposals.formats import detectron2_pickle


def write(path, value, protocol=4):
    path.write_bytes(pickle.dumps(value, protocol=protocol))
    return str(path)


def test_round_trip_and_detectron2_can_read_it(tmp_path):
    path = str(tmp_path / "p.pkl")
    detectron2_pickle.write(path, rows())
    assert content(detectron2_pickle.read(path)) == BOXES
    dicts = load_proposals_into_dataset([dict(record) for record in RECORDS], path)
    assert [record["image_id"] for record in dicts] == [10, 9, 100]
    for record in dicts:
        boxes, scores = BOXES[str(record["image_id"])]
        order = np.argsort(scores)[::-1]  # Detectron2's own sorting reverses equal scores
        assert record["proposal_boxes"].tolist() == [boxes[i] for i in order]
        assert record["proposal_objectness_logits"].tolist() == [scores[i] for i in order]
        assert record["proposal_bbox_mode"] == BoxMode.XYXY_ABS


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("core", ["numpy.core", "numpy._core"])
def test_every_protocol_and_both_numpys(tmp_path, protocol, core):
    boxes = np.array([[1, 2, 3, 4]], dtype=np.float64)
    value = {
        "ids": [np.int64(7)],
        "boxes": [boxes],
        "objectness_logits": [np.float32([0.5])],
        "bbox_mode": BoxMode.XYWH_ABS,
    }
    here = np.core.__name__ if np.__version__ < "2" else "numpy._core"
    text = pickle.dumps(value, protocol=protocol)
    if here != core and protocol < 4:  # from protocol 4 on, names are stored with their length
        text = text.replace(f"c{here}.".encode(), f"c{core}.".encode())
    elif here != core:
        for module in ("multiarray", "numeric"):
            old, new = (f"{name}.{module}".encode() for name in (here, core))
            text = text.replace(b"\x8c" + bytes([len(old)]) + old, b"\x8c" + bytes([len(new)]) + new)
        start = text.index(b"\x95")  # the length of the frame changes too
        text = text[:start] + b"\x95" + (len(text) - start - 9).to_bytes(8, "little") + text[start + 9 :]
    assert core.encode() + b".m" in text
    (tmp_path / "p.pkl").write_bytes(text)
    source = detectron2_pickle.read(str(tmp_path / "p.pkl"))
    found, scores = source["7"]
    assert source.to_xyxy(found).tolist() == [[1, 2, 4, 6]]  # x, y, w, h
    assert scores.tolist() == [0.5]


def test_detectron1s_keys_and_python_2s_strings(tmp_path):
    # Written by hand in the format of Python 2: protocol 2, an array's bytes as a str (T) with values beyond ASCII.
    array = lambda values: (  # noqa: E731
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85U\x01btR(K\x01"
        + b"K"
        + bytes([values.shape[0]])
        + (b"\x85" if values.ndim == 1 else b"K" + bytes([values.shape[1]]) + b"\x86")
        + b"cnumpy\ndtype\n(U\x02f4K\x00K\x01tR(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89T"
        + values.nbytes.to_bytes(4, "little")
        + values.tobytes()
        + b"tb"
    )
    boxes, scores = np.float32([[0.1, 2.7, 130.3, 255.9]]), np.float32([0.9])
    text = b"\x80\x02}(U\x07indexes](U\x04ab\xe9ceU\x05boxes](" + array(boxes) + b"eU\x06scores](" + array(scores)
    (tmp_path / "p.pkl").write_bytes(text + b"eu.")
    source = detectron2_pickle.read(str(tmp_path / "p.pkl"))
    assert list(source) == ["ab\xe9c"]
    assert source["ab\xe9c"][0].tolist() == boxes.tolist()
    assert source["ab\xe9c"][1].tolist() == scores.tolist()


class Harmful:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("protocol", range(6))
def test_pickle_with_code_raises_and_does_not_run(tmp_path, protocol):
    made = tmp_path / "made"
    value = {"ids": [1], "boxes": [np.zeros((1, 4))], "objectness_logits": [Harmful(made)]}
    path = write(tmp_path / "p.pkl", value, protocol)
    with pytest.raises(ValueError, match=r"p\.pkl is refused: it imports 'posix.system', and only arrays"):
        detectron2_pickle.read(path)
    assert not made.exists()
    pickle.loads((tmp_path / "p.pkl").read_bytes())  # the pickle is indeed harmful
    assert made.exists()


@pytest.mark.parametrize(
    "text, name",
    [
        (b"cbuiltins\neval\n(S'1'\ntR.", "builtins.eval"),
        (b"cnumpy\nload\n(S'x'\ntR.", "numpy.load"),
        (b"\x80\x04\x8c\x05numpy\x8c\x10testing.measure_\x93.", "numpy.testing.measure_"),
        (b"cnumpy.core.multiarray\nfromfile\n.", "numpy.core.multiarray.fromfile"),
        (b"c_codecs\ndecode\n.", "_codecs.decode"),
    ],
)
def test_other_imports_raise(tmp_path, text, name):
    (tmp_path / "p.pkl").write_bytes(text)
    with pytest.raises(ValueError, match=f"it imports '{name}'"):
        detectron2_pickle.read(str(tmp_path / "p.pkl"))


GOOD = {"ids": [1], "boxes": [np.zeros((1, 4))], "objectness_logits": [np.zeros(1)]}


@pytest.mark.parametrize(
    "value, message",
    [
        ([1], r"p\.pkl contains a list, expected a dict"),
        ({**GOOD, "bbox_mode": 9}, r"p\.pkl has the bbox_mode 9, expected one of 0 \(XYXY_ABS\), 1 \(XYWH_ABS\), 2"),
        ({**GOOD, "bbox_mode": BoxMode.XYWHA_ABS}, r"p\.pkl has the bbox_mode 4, expected"),
        ({**GOOD, "ids": 3}, r"p\.pkl: 'ids' is a int, expected a list of one item per image"),
        ({**GOOD, "ids": [None]}, r"p\.pkl: None is not the name of an image"),
        ({"ids": [1], "boxes": []}, r"p\.pkl has no 'objectness_logits', only \['boxes', 'ids'\]"),
        ({**GOOD, "ids": [1, 2]}, r"p\.pkl: 2 ids, 1 arrays of boxes, 1 of scores"),
        ({k: v * 2 for k, v in {**GOOD, "ids": [5]}.items()}, r"p\.pkl: image '5' is listed twice"),
    ],
)
def test_invalid_content_raises(tmp_path, value, message):
    with pytest.raises(ValueError, match=message):
        detectron2_pickle.read(write(tmp_path / "p.pkl", value))


def test_truncated_or_other_file_raises(tmp_path):
    whole = pickle.dumps(GOOD)
    for text in (b"", b"not a pickle", b"\x80\xff", whole[: len(whole) // 2], whole[:-1]):
        (tmp_path / "p.pkl").write_bytes(text)
        with pytest.raises(ValueError, match=r"p\.pkl is truncated or not a pickle of arrays"):
            detectron2_pickle.read(str(tmp_path / "p.pkl"))


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(
    "boxes, scores, expected",
    [
        (np.zeros((0, 4), np.float32), np.zeros(0), ([], [])),
        (np.zeros(0), np.zeros((0, 1)), ([], [])),
        ([], [], ([], [])),
        (np.array([[1, 2, 3, 4]], np.int16), np.array(0.5), ([[1, 2, 3, 4]], [0.5])),
        (np.array([1, 2, 3, 4]), 0.5, ([[1, 2, 3, 4]], [0.5])),
        (np.array([[1, 2, 3, 4]] * 2), np.array([[0.5], [0.25]]), ([[1, 2, 3, 4]] * 2, [0.5, 0.25])),
        ([[1, 2, 3, 4]], [0.5], ([[1, 2, 3, 4]], [0.5])),
    ],
)
@pytest.mark.parametrize("kind", [dict, OrderedDict, lambda content: defaultdict(list, content)])
def test_harmless_old_pickles_are_read(tmp_path, protocol, boxes, scores, expected, kind):
    value = kind({"indexes": np.array(["000012"]), "boxes": [boxes], "scores": [scores]})
    source = detectron2_pickle.read(write(tmp_path / "p.pkl", value, protocol))
    assert [part.tolist() for part in source["000012"]] == list(expected)


@pytest.mark.parametrize(
    "boxes, scores, message",
    [
        (np.zeros((2, 6)), np.zeros(3), r"boxes \(2, 6\) are not \(R, 4\)"),
        (np.zeros((2, 4)), np.zeros(3), r"2 boxes and scores \(3,\) are not"),
        (np.zeros((4, 4)), np.zeros((2, 2)), r"4 boxes and scores \(2, 2\) are not"),
        (["a"], [1], "boxes .* are not numbers"),
        ([[[[1, 2, 3, 4]]]], [1], "boxes are lists in lists in lists"),
        ([[10**400, 2, 3, 4]], [1], "boxes .* are not numbers"),
        (np.zeros((1, 4)), None, "has no scores"),
    ],
)
def test_unexpected_shapes_raise_and_name_the_image(tmp_path, boxes, scores, message):
    value = {"ids": ["dog"], "boxes": [boxes], "scores": [scores]}
    with pytest.raises(ValueError, match=rf"p\.pkl: image 'dog':? {message}"):
        detectron2_pickle.read(write(tmp_path / "p.pkl", value))["dog"]


@pytest.mark.parametrize("protocol", range(6))
def test_scalars_are_read(tmp_path, protocol):
    values = [np.float32(0.5), np.int64(-3), np.bool_(True), np.str_("dög"), np.bytes_(b"\xff")]
    assert load_pickle(write(tmp_path / "p.pkl", values, protocol)) == values


@pytest.mark.parametrize(
    "text",
    [
        b"\x80\x02Nr\xff\xff\xff\x7f.",  # a table of 34 GB
        b"cnumpy\nndarray\n(I99999999\nI9999\ntR.",
        b"c__builtin__\nbytes\n(I9999999999\ntR.",
        b"cnumpy.core.multiarray\nscalar\n(cnumpy\ndtype\n(S'V2000000000'\ntRtR.",
        b"cnumpy.core.multiarray\nscalar\n(cnumpy\ndtype\n(S'V2000000000'\ntRS'x'\ntR.",
        b"cnumpy.core.multiarray\nscalar\n(cnumpy\ndtype\n(S'U500000000'\ntRS'x'\ntR.",
        b"cnumpy.core.multiarray\nscalar\n(cnumpy\ndtype\n(S'O'\ntRN\ntR.",
    ],
)
def test_pickles_that_would_fill_the_memory_raise(tmp_path, text):
    (tmp_path / "p.pkl").write_bytes(text)
    with pytest.raises(ValueError, match=r"p\.pkl is truncated or not a pickle of arrays"):
        detectron2_pickle.read(str(tmp_path / "p.pkl"))
