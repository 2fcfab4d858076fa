from wsd_distill.pipeline.experiments import COMPARISON, PUBLISHED, TRAININGS, label_trainings


def test_rows_are_published_then_unpublished_and_trainings_exist():
    for parts in PUBLISHED.values():
        for part in parts:
            assert set(part.trainings.values()) <= set(TRAININGS) and part.trainings == parts[0].trainings
            paper = [method for method in part.trainings if method in part.rows]
            assert list(part.trainings)[: len(paper)] == paper and part.baseline in part.trainings
            assert bool(paper) == (part.baseline in paper)
    assert [len(parts[0].trainings) for parts in PUBLISHED.values()] == [8, 8, 4, 9, 5, 12]


def test_each_training_has_one_label_and_follows_the_one_it_starts_from(tmp_path):
    found = label_trainings([], tmp_path, 1)
    assert list(found.values()) == ["teacher", "student", "student_long", "stage1", "stage2"]
    assert list(found) == [*list(COMPARISON)[:3], "S-Cls (w/), stage 1", "S-Cls (w/)"]
    runs = list(label_trainings([1, 4, 5], tmp_path, 1).values())
    shown = {name for number in (1, 4, 5) for name in PUBLISHED[number][0].trainings.values()}
    assert len(runs) == len(set(runs)) and shown < set(runs)
    for run in runs:
        start = TRAININGS[run].init_from
        assert not start or runs.index(start) < runs.index(run)


def test_trainings_of_the_comparison_need_a_table_or_a_folder(tmp_path):
    assert "student_long" not in label_trainings([5], tmp_path, 2).values()
    (tmp_path / "seed1/student_long").mkdir(parents=True)
    assert "student_long" in label_trainings([5], tmp_path, 2).values()
