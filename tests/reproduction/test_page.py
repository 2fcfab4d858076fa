from wsd_distill.reproduction.page import methods
from wsd_distill.reproduction.recipes import COMPARISON, RECIPES, ROWS


def test_each_run_once_and_what_it_starts_from_before_it(tmp_path):
    found = methods([], tmp_path, 1)
    assert list(found.values()) == ["teacher", "student", "student_long", "stage1", "stage2"]
    assert list(found) == [*list(COMPARISON)[:3], "S-Cls (w/), stage 1", "S-Cls (w/)"]
    runs = list(methods([1, 4, 5], tmp_path, 1).values())
    assert len(runs) == len(set(runs)) and {*ROWS[1].values(), *ROWS[4].values(), *ROWS[5].values()} < set(runs)
    for run in runs:
        start = RECIPES[run].start
        assert not start or runs.index(start) < runs.index(run)


def test_of_the_comparison_what_a_table_names_or_what_is_there(tmp_path):
    assert "student_long" not in methods([5], tmp_path, 2).values()
    (tmp_path / "seed1/student_long").mkdir(parents=True)
    assert "student_long" in methods([5], tmp_path, 2).values()
