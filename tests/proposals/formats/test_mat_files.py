import numpy as np
import pytest
from helpers.proposal_files import BOXES, content, rows
from scipy.io import loadmat, savemat

from wsd_distill.proposals.formats import mat_files


def cells(*values):
    array = np.empty(len(values), dtype=object)
    for i, value in enumerate(values):
        array[i] = value
    return array


def read(path, box_format=mat_files.BOX_FORMAT):
    source = mat_files.read(str(path))
    source.box_format = box_format
    return source


@pytest.mark.parametrize("box_format", mat_files.WRITTEN_FORMATS)
def test_round_trip(tmp_path, box_format):
    path = str(tmp_path / "p.mat")
    mat_files.write(path, rows(), box_format)
    assert content(read(path, box_format)) == BOXES


def test_written_files_have_fast_rcnns_layout(tmp_path):
    path = str(tmp_path / "p.mat")
    mat_files.write(path, rows())
    written = loadmat(path)
    assert (written["images"].shape, written["boxes"].shape) == ((3, 1), (1, 3))
    assert [name.item() for name in written["images"].ravel()] == ["ten", "hundred", "nine"]
    assert written["boxes"].ravel()[2].tolist() == [[21, 11, 45, 30]]  # y1, x1, y2, x2 from 1, last pixel included
    assert written["boxes"].ravel()[2].dtype == np.float64


TABLE = [[3, 2, 30, 40], [1, 1, 5, 5], [1, 1, 2, 2], [2, 2, 3, 3]]


@pytest.mark.parametrize(
    "box_format, first", [("y1x1y2x2", [1, 2, 40, 30]), ("x1y1x2y2", [2, 1, 30, 40]), ("xywh", [2, 1, 32, 41])]
)
def test_box_formats_and_rank_scores(tmp_path, box_format, first):
    path = str(tmp_path / "p.mat")
    savemat(path, {"images": cells("a", "b")[:, None], "boxes": cells(np.float64(TABLE), np.zeros((0, 0)))[None]})
    source = read(path, box_format)
    boxes, scores = source["a"]
    assert source.to_xyxy(boxes)[0].tolist() == first
    assert scores is None
    assert source.scores == "1 - rank / number, since the file has none"
    assert source["b"][0].shape == (0, 4)


def test_scores_of_wsddns_files_and_in_a_fifth_column(tmp_path):
    path, table = str(tmp_path / "p.mat"), np.float64(TABLE)
    savemat(path, {"images": cells("a"), "boxes": cells(table), "boxScores": cells(np.float32([[4], [3], [2], [1]]))})
    assert mat_files.read(path)["a"][1].tolist() == [4, 3, 2, 1]
    savemat(path, {"images": cells("a"), "boxes": cells(np.hstack([table, [[0.5], [0.25], [0.125], [0]]]))})
    source = mat_files.read(path)
    assert source["a"][1].tolist() == [0.5, 0.25, 0.125, 0]
    assert source.scores == "of the file"


def test_folder_with_one_file_per_image(tmp_path):
    (tmp_path / "COCO_val2014_0").mkdir()
    savemat(tmp_path / "COCO_val2014_0" / "COCO_val2014_000000000042.mat", {"boxes": np.uint16(TABLE)})
    savemat(tmp_path / "other.mat", {"boxes": np.uint16(TABLE[1:]), "scores": np.float64([[3], [2], [1]])})
    source = mat_files.read(str(tmp_path))
    assert sorted(source) == ["COCO_val2014_000000000042", "other"]
    assert source.to_xyxy(source["COCO_val2014_000000000042"][0])[0].tolist() == [1, 2, 40, 30]
    assert source["other"][1].tolist() == [3, 2, 1]
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"empty: no \.mat file"):
        mat_files.read(str(tmp_path / "empty"))


def test_invalid_files_raise(tmp_path):
    path = tmp_path / "p.mat"
    header = b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\x00\x02IM"
    path.write_bytes(header.ljust(512, b"\x00") + b"\x89HDF\r\n\x1a\n".ljust(512, b"\x00"))
    with pytest.raises(ValueError, match=r"p\.mat has MATLAB's format 7\.3: save it again .*'-v7'"):
        mat_files.read(str(path))
    for text in (b"", b"not a mat file" * 50):
        path.write_bytes(text)
        with pytest.raises(ValueError, match=r"p\.mat is truncated, damaged or not a \.mat file"):
            mat_files.read(str(path))
    savemat(path, {"images": cells("a"), "all_boxes": cells(np.float64(TABLE))})
    with pytest.raises(ValueError, match=r"p\.mat lacks the variables \['boxes'\], it has \['images', 'all_boxes'\]"):
        mat_files.read(str(path))
    savemat(path, {"images": cells("a", "b"), "boxes": cells(np.float64(TABLE))})
    with pytest.raises(ValueError, match=r"p\.mat: 2 images, 1 arrays of boxes"):
        mat_files.read(str(path))
    savemat(path, {"images": cells("a"), "boxes": cells(np.zeros((2, 3)))})
    with pytest.raises(ValueError, match=r"p\.mat: image 'a': boxes \(2, 3\) are not"):
        mat_files.read(str(path))["a"]


@pytest.mark.parametrize("dtype", ["u1", "i2", "u2", "i4", "f4", "f8", "i8", ">f8"])
@pytest.mark.parametrize("compressed", [False, True])
def test_arrays_are_those_of_scipy(tmp_path, dtype, compressed):
    boxes = np.arange(1, 49).reshape(12, 4).astype(dtype)
    savemat(
        tmp_path / "p.mat", {"images": cells("a", "\xe9l"), "boxes": cells(boxes, boxes[:1])}, do_compression=compressed
    )
    source, expected = read(tmp_path / "p.mat"), loadmat(tmp_path / "p.mat")
    assert list(source) == [name.item() for name in expected["images"].ravel()] == ["a", "\xe9l"]
    for name, table in zip(source, expected["boxes"].ravel()):
        assert source[name][0].tolist() == table.tolist()
    savemat(tmp_path / "p.mat", {"images": np.array(["abc", "de"]), "boxes": cells(boxes, boxes)})  # rows of text
    assert list(read(tmp_path / "p.mat")) == ["abc", "de"]


def test_numbers_and_file_names_as_names(tmp_path):
    savemat(tmp_path / "p.mat", {"images": np.array([[80], [7]]), "boxes": cells(np.float64(TABLE), np.float64(TABLE))})
    assert list(read(tmp_path / "p.mat")) == ["80", "7"]
    savemat(tmp_path / "p.mat", {"images": cells(np.float64(80)), "boxes": cells(np.float64(TABLE[0]))})
    source = read(tmp_path / "p.mat")
    assert list(source) == ["80"] and source["80"][0].tolist() == [TABLE[0]]


@pytest.mark.parametrize(
    "content, message",
    [
        ({"images": cells(np.zeros((2, 2))), "boxes": cells(np.float64(TABLE))}, "is not the name of an image"),
        ({"images": cells("a"), "boxes": np.float64(TABLE)}, r"p\.mat: 'boxes' is not a cell array"),
        ({"images": cells("a"), "boxes": cells("text")}, r"p\.mat: image 'a': boxes .* are not numbers"),
        (
            {"images": cells("a"), "boxes": cells(np.float64(TABLE)), "scores": cells(np.ones((2, 1)))},
            r"p\.mat: image 'a': 4 boxes and scores \(2, 1\) are not",
        ),
    ],
)
def test_unexpected_content_raises(tmp_path, content, message):
    savemat(tmp_path / "p.mat", content)
    with pytest.raises(ValueError, match=message):
        dict(read(tmp_path / "p.mat"))


@pytest.mark.parametrize("compressed", [False, True])
def test_damaged_files_are_read_or_named(tmp_path, compressed):
    rng, path = np.random.default_rng(0), tmp_path / "p.mat"
    savemat(path, {"images": cells("a", "b"), "boxes": cells(*[np.float64(TABLE)] * 2)}, do_compression=compressed)
    whole = path.read_bytes()
    for number in range(250):
        damaged, position = bytearray(whole), int(rng.integers(len(whole)))
        damaged[position : position + 1 + number % 4] = rng.bytes(1 + number % 4)
        path.write_bytes(damaged[:position] if number % 5 == 0 else damaged)
        try:
            dict(read(path))
        except ValueError as error:
            assert str(path) in str(error)


def test_a_compressed_variable_beyond_the_limit_raises(tmp_path, monkeypatch):
    savemat(tmp_path / "p.mat", {"images": cells("a"), "boxes": cells(np.zeros((50_000, 4)))}, do_compression=True)
    assert (tmp_path / "p.mat").stat().st_size < 10_000
    monkeypatch.setenv("WSD_MAX_UNPACKED_GB", "0.001")
    with pytest.raises(ValueError, match=r"p\.mat has more than 0\.001 GB when decompressed: set the environment"):
        read(tmp_path / "p.mat")


@pytest.mark.parametrize("shape", [(1, 1788739586), (1_000_000, 1_000_000)])
def test_a_size_that_does_not_fit_the_file_raises_before_memory_is_allocated(tmp_path, shape):
    savemat(tmp_path / "p.mat", {"images": cells("a", "b"), "boxes": cells(*[np.float64(TABLE)] * 2)})
    content = (tmp_path / "p.mat").read_bytes()
    size = np.array([1, 2], "<i4").tobytes()
    assert content.count(size) >= 2
    (tmp_path / "p.mat").write_bytes(content.replace(size, np.array(shape, "<i4").tobytes(), 1))
    with pytest.raises(ValueError, match=r"p\.mat is truncated, damaged .* \(2 cells instead of \d+\)"):
        read(tmp_path / "p.mat")
