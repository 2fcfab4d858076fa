import glob
import io
import os
import tarfile
import tracemalloc

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from wsd_distill.predicting import listing
from wsd_distill.predicting.listing import match_glob
from wsd_distill.predicting.parquet_photos import find_column
from wsd_distill.predicting.sources import open_sources


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(path, data=b"x"):
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    with open(path, "wb") as file:
        file.write(data)


def write_tar(path, members, mode="w"):
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    with tarfile.open(path, mode) as tar:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))


def found(*sources, **options):
    return [(photo.name, photo.load()) for photo in open_sources(list(sources), **options)]


def test_files_and_folders_in_the_order_of_the_arguments_and_sorted():
    for name in ("b/2.JPG", "b/1.png", "b/notes.txt", "b/a/3.webp", "a.jpg"):
        write(name)
    expected = ["b/1.png", "b/2.JPG", "b/a/3.webp", "a.jpg"]
    assert found("b/", "a.jpg") == [(name, name) for name in expected]
    assert [name for name, _ in found("b/**/*.*g*")] == ["b/1.png"]
    assert [name for name, _ in found("*/[12].*")] == ["b/1.png", "b/2.JPG"]


@pytest.mark.parametrize(
    "sources, expected",
    [
        (["b", "b/2.jpg"], "b/1.jpg b/2.jpg b/a/3.jpg b/a/a/4.jpg"),
        (["b/2.jpg", "b"], "b/2.jpg b/1.jpg b/a/3.jpg b/a/a/4.jpg"),
        (["b/*", "b/**/*.jpg"], "b/1.jpg b/2.jpg b/a/3.jpg b/a/a/4.jpg"),
        (["link", "b/a/../1.jpg", "b/a/"], "link/1.jpg link/2.jpg link/a/3.jpg link/a/a/4.jpg"),
        (["b/**/a/**/*"], "b/a/3.jpg b/a/a/4.jpg"),
        (["b/{1..2}*", "b/2.jpg"], "b/1.jpg b/2.jpg"),
        (["s.tar", "s.tar", "b/1.jpg"], "s.tar/5.jpg b/1.jpg"),
    ],
)
def test_a_photo_that_is_given_twice_is_found_once(sources, expected, folder, caplog):
    for name in ("1.jpg", "2.jpg", "a/3.jpg", "a/a/4.jpg"):
        write(f"b/{name}")
    os.symlink("b", "link")
    write_tar("s.tar", {"5.jpg": b"x"})
    assert [name for name, _ in found(*sources)] == expected.split()
    repeated = [
        text for text in caplog.messages if text.endswith("is given more than once: each photo is predicted once")
    ]
    assert len(repeated) == len(caplog.messages) == 1


def test_hashes_of_more_files_than_a_block(monkeypatch, caplog):
    monkeypatch.setattr(listing, "BLOCK", 4)
    is_new = listing.FirstOnly()
    assert [is_new(f"{i % 11}.jpg") for i in range(22)] == [True] * 11 + [False] * 11
    assert caplog.messages == ["0.jpg is given more than once: each photo is predicted once"]


def test_globs_find_what_the_standard_library_finds():
    for name in ("b/10.jpg", "b/9.png", "b/.hidden/1.jpg", "b/.2.jpg", "b/a-b/3.jpg", "b/a/4.jpg", "b/a/c/5.jpg"):
        write(name)
    for pattern in (
        "b/*",
        "*/*.jpg",
        "b/a*/*",
        "./b/[!.]*.png",
        "b/.*",
        "*/a/",
        f"{os.getcwd()}/b/?.png",
        "x/*",
        "b/*/*/5.jpg",
    ):
        expected = sorted(glob.glob(pattern), key=lambda path: path.split("/"))
        assert list(match_glob(pattern)) == expected, pattern
    for pattern in ("**/*.jpg", "b/**/[0-9]*", "b/**/c/*", "**/5.jpg", "x/**/*.jpg"):
        assert sorted(match_glob(pattern)) == sorted(glob.glob(pattern, recursive=True)), pattern
    assert list(match_glob("**/*.jpg")) == ["b/10.jpg", "b/a/4.jpg", "b/a/c/5.jpg", "b/a-b/3.jpg"]
    assert list(match_glob("b/**")) == ["b"] and list(match_glob("b/**/*")) == [
        "b/10.jpg",
        "b/9.png",
        "b/a/4.jpg",
        "b/a/c/5.jpg",
        "b/a-b/3.jpg",
    ]


@pytest.mark.parametrize("source", ["b", "b/*", "b/**/*.jpg", "b/**"])
def test_a_link_in_a_circle_is_a_file_that_cannot_be_read(source):
    os.mkdir("b")
    os.symlink("1.jpg", "b/1.jpg")
    write("b/2.jpg")
    assert found(source) == [("b/1.jpg", "b/1.jpg"), ("b/2.jpg", "b/2.jpg")]


@pytest.mark.parametrize("suffix", ["tar", "tar.gz", "tgz"])
def test_members_of_a_tar(suffix):
    members = {"./k/1.jpg": b"one", "k/1.json": b"{}", "k/" + "long" * 40 + ".png": b"two" * 1000, "3.cls": b"3"}
    write_tar(f"a.{suffix}", members, "w" if suffix == "tar" else "w:gz")
    long = "k/" + "long" * 40 + ".png"
    assert found(f"a.{suffix}") == [(f"a.{suffix}/k/1.jpg", b"one"), (f"a.{suffix}/{long}", b"two" * 1000)]


@pytest.mark.parametrize("suffix", ["tar", "tar.gz"])
def test_a_truncated_tar_ends_with_an_error_that_names_it(suffix):
    write_tar(f"a.{suffix}", {f"{i}.jpg": os.urandom(2000) for i in range(3)}, "w" if suffix == "tar" else "w:gz")
    os.truncate(f"a.{suffix}", 4000)
    write("b.jpg")
    photos = list(open_sources([f"a.{suffix}", "b.jpg"]))
    assert photos[0].name == f"a.{suffix}/0.jpg" and len(photos[0].load()) == 2000
    assert photos[-2].name == f"a.{suffix}" and photos[-1].load() == "b.jpg"
    with pytest.raises(ValueError, match=rf"a.{suffix} cannot be read to its end \("):
        photos[-2].load()


def test_a_member_of_too_many_bytes_is_not_read(monkeypatch):
    monkeypatch.setenv("WSD_MAX_IMAGE_MB", "0.001")
    write_tar("a.tar", {"1.jpg": b"x" * 1001, "2.jpg": b"y"})
    first, second = open_sources(["a.tar"])
    with pytest.raises(ValueError, match="more than the 0.001 MB that WSD_MAX_IMAGE_MB allows"):
        first.load()
    assert second.load() == b"y"


def test_parquet_with_paths_bytes_and_structs():
    struct = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    rows = [{"bytes": b"one", "path": "1.jpg"}, {"bytes": b"two", "path": None}, {"bytes": None, "path": "c.jpg"}]
    os.makedirs("d")
    pq.write_table(pa.table({"id": [1, 2, 3], "image": pa.array(rows, struct)}), "d/s.parquet")
    assert found("d/s.parquet") == [
        ("d/s.parquet/1.jpg", b"one"),
        ("d/s.parquet/1", b"two"),
        ("d/c.jpg", "d/c.jpg"),
    ]
    pq.write_table(pa.table({"jpg": [b"one", None], "text": ["a", "b"]}), "b.parquet")
    first, second = open_sources(["b.parquet"])
    assert first == ("b.parquet/0", first.load) and first.load() == b"one" and second.name == "b.parquet/1"
    with pytest.raises(ValueError, match="b.parquet, row 1: column 'jpg' is empty"):
        second.load()
    pq.write_table(pa.table({"label": ["a"], "file": ["x.jpg"], "other": ["/y.jpg"]}), "d/p.parquet")
    assert found("d/p.parquet") == [("d/x.jpg", "d/x.jpg")]
    assert found("d/p.parquet", column="other") == [("/y.jpg", "/y.jpg")]


def test_a_column_that_is_missing_or_ambiguous_is_an_error():
    pq.write_table(pa.table({"a": [b"1"], "b": [b"2"], "n": [1]}), "a.parquet")
    with pytest.raises(
        ValueError, match=r"a.parquet has several columns of bytes values, \['a', 'b'\]: choose one with"
    ):
        open_sources(["a.parquet"])
    assert find_column("a.parquet", "b") == ("b", "bytes")
    for column in ("n", "c"):
        with pytest.raises(ValueError, match=rf"a.parquet has no column '{column}' of paths or bytes"):
            open_sources(["a.parquet"], column)
    pq.write_table(pa.table({"n": [1]}), "n.parquet")
    with pytest.raises(ValueError, match=r"n.parquet has no column of photos among \['n'\]"):
        open_sources(["n.parquet"])
    write("broken.parquet")
    with pytest.raises(ValueError, match=r"broken.parquet is not a Parquet file"):
        open_sources(["broken.parquet"])
    os.mkdir("many")
    pq.write_table(pa.table({"file": ["x.jpg"]}), "many/0.parquet")
    pq.write_table(pa.table({"n": [1]}), "many/1.parquet")
    with pytest.raises(ValueError, match=r"many/1.parquet has no column of photos"):  # before the photo of the first
        open_sources(["many/*.parquet"])


def test_a_source_that_is_missing_or_empty_is_an_error_before_the_first_photo():
    write("a.jpg")
    write("texts/a.txt")
    write_tar("shards/00.tar", {"a.txt": b"x"})
    pq.write_table(pa.table({"file": pa.array([], pa.string())}), "empty.parquet")
    for source in ("b.jpg", "none/"):
        with pytest.raises(FileNotFoundError, match=f"^{source} does not exist: give a photo"):
            open_sources(["a.jpg", source])
    with pytest.raises(FileNotFoundError, match=r"^nothing matches the pattern none/\*.png: correct it"):
        open_sources(["a.jpg", "none/*.png"])
    for source in ("texts", "empty.parquet", "shards/00.tar"):
        with pytest.raises(ValueError, match=f"{source} has no photos"):
            open_sources(["a.jpg", source])
    with pytest.raises(ValueError, match=r"shards has no photos .*: for its shards, write 'shards/\*.tar'"):
        open_sources(["shards"])


def test_a_name_that_is_not_unicode_is_replaced():
    path = os.fsdecode(b"photos/\xff.jpg")
    write(path)
    assert found("photos") == [("photos/�.jpg", path)]


def test_memory_does_not_grow_with_the_number_of_photos():
    def peak(count):
        write_tar("a.tar", {f"{i:06d}.jpg": b"x" * 100 for i in range(count)})
        tracemalloc.start()
        assert sum(1 for _ in open_sources(["a.tar"])) == count
        result = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return result

    peak(10)
    assert peak(4000) < peak(200) + 50_000  # tarfile alone would keep 400 bytes or more of each


@pytest.mark.parametrize("sources, limit", [(["many"], 25), (["many/*.jpg"], 25), (["many", "many/*"], 45)])
def test_memory_of_a_folder_is_that_of_its_names(sources, limit, folder, monkeypatch):
    """A name has 12 bytes, and its hash 8; as a Python object it takes 61 and 8, and its path more."""
    os.mkdir("many")
    write("photo", b"")
    for i in range(5_000):
        os.link("photo", f"many/{i:08d}.jpg")
    monkeypatch.setattr(listing, "BLOCK", 500)
    assert sum(1 for _ in open_sources(sources)) == 5_000  # imports
    tracemalloc.start()
    photos = open_sources(sources)
    assert next(photos).name == "many/00000000.jpg" and sum(1 for _ in photos) == 4_999
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5_000 * limit + 200_000
