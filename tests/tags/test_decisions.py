"""Decisions about tags, and each wrong row."""

import pytest

from wsd_distill.tags import apply_decisions, read_tags

TAGS = "file,labels\na.jpg,cat;?dog\nb.jpg,cow\nc.jpg,\n"


@pytest.fixture
def tags(tmp_path):
    (tmp_path / "tags.csv").write_text(TAGS)
    return read_tags(tmp_path / "tags.csv")


def write(folder, *rows, header="file,label,decision"):
    (folder / "decisions.csv").write_text("\n".join([header, *rows]) + "\n")
    return folder / "decisions.csv"


def test_each_decision(tags, tmp_path):
    path = write(tmp_path, "a.jpg,cat,remove", "a.jpg,dog, Add ", "b.jpg,cow,keep", "c.jpg,cat,unknown", "c.jpg,dog,")
    changed, note = apply_decisions(tags, path)
    assert changed.classes == ["cat", "cow", "dog"]
    assert changed.label_matrix().tolist() == [[0, 0, 1], [0, 1, 0], [-1, 0, 0]]
    assert tags.label_matrix().tolist() == [[1, 0, -1], [0, 1, 0], [0, 0, 0]]
    assert note == f"{path}: 4 decisions were applied (1 keep, 1 remove, 1 add, 1 unknown)."
    assert changed.table.schema == tags.table.schema


def test_the_table_of_all_suspects_can_be_filled_in(tags, tmp_path):
    header = "file,label,decision,tag,suspicion"
    path = write(tmp_path, "b.jpg,cow,remove,present,0.9", "c.jpg,cow,,absent,0.8", header=header)
    assert apply_decisions(tags, path)[0].label_matrix()[:, 1].tolist() == [0, 0, 0]


def test_equal_decisions_count_once(tags, tmp_path):
    path = write(tmp_path, "b.jpg,cow,remove", "b.jpg,cow,remove")
    assert ": 1 decisions" in apply_decisions(tags, path)[1]


@pytest.mark.parametrize(
    "row, message",
    [
        ("d.jpg,cow,keep", "line 3: 'd.jpg' is not among the photos with tags: remove the row"),
        ("b.jpg,cows,remove", "line 3: label 'cows' is not in the list of 3 classes; did you mean 'cow'"),
        ("b.jpg,cow,drop", "line 3: the decision is 'drop': write keep, remove, add, unknown or nothing"),
        ("b.jpg,,remove", "line 3: the column 'label' is empty"),
        ("b.jpg,cat,remove", "line 3: 'remove', but 'cat' is absent in the tags of 'b.jpg' already: write keep"),
        ("b.jpg,cow,add", "line 3: 'add', but 'cow' is present in the tags of 'b.jpg' already"),
        ("a.jpg,cat,remove", "line 3: 'a.jpg', 'cat' is 'remove' here and 'keep' in line 2: leave one of the rows"),
    ],
)
def test_wrong_rows(tags, tmp_path, row, message):
    path = write(tmp_path, "a.jpg,cat,keep", row)
    with pytest.raises(ValueError, match=f"decisions.csv, {message}"):
        apply_decisions(tags, path)


def test_wrong_files(tags, tmp_path):
    with pytest.raises(ValueError, match=r"decisions.csv has no column 'decision': its columns have to be file, label"):
        apply_decisions(tags, write(tmp_path, header="file,label"))
    (tmp_path / "decisions.csv").write_bytes(b"file,label,decision\n\xff,a,keep\n")
    with pytest.raises(ValueError, match="is not a CSV file in UTF-8"):
        apply_decisions(tags, tmp_path / "decisions.csv")
    with pytest.raises(FileNotFoundError):
        apply_decisions(tags, tmp_path / "none.csv")
