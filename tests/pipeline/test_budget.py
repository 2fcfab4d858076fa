"""Plans that fit into a time."""

import pytest
from helpers.documents import ROOT

from wsd_distill.engine import load_config
from wsd_distill.pipeline.budget import (
    CANDIDATES,
    SIZES,
    START,
    Costs,
    Work,
    choose_plan,
    describe_time,
    parse_time,
    time_student,
    time_teacher,
)

WORK = Work(photos=1000, others=300, teacher_epochs=5, stage1_epochs=5)


def measure(size, teacher_size):
    """A machine on which a photo of 128 pixels takes 10 ms to read and 20 ms to train on."""
    area, teacher = (size / 128) ** 2, (teacher_size / 384) ** 2
    return Costs(0.01, 0.02 * area, 0.05 * teacher, 0.2 * teacher, 0.1 * teacher, 0.3)


def test_the_recipes_sizes_without_a_budget():
    plan = choose_plan(None, WORK, measure, CANDIDATES, (128, 384, 20))
    assert (plan.size, plan.teacher_size, plan.epochs) == (128, 384, 20)
    assert plan.candidates == CANDIDATES
    plain = 1000 * 20 * 0.03 + 300 * 0.01 + START
    teacher = 1300 * 0.3 + 1000 * 5 * 0.21 + 1300 * 0.1 + START
    assert list(plan.seconds) == [
        CANDIDATES[0].title,
        CANDIDATES[1].title,
        "teacher",
        *(c.title for c in CANDIDATES[2:]),
    ]
    assert plan.seconds[CANDIDATES[0].title] == pytest.approx(plain)
    assert plan.seconds[CANDIDATES[1].title] == pytest.approx(plain + 1000 * 0.06)
    assert plan.seconds["teacher"] == pytest.approx(teacher)
    assert plan.seconds[CANDIDATES[4].title] == pytest.approx(plain + 1000 * 5 * 0.03 + START)
    assert "in all" in plan.describe() and "128 pixels, 20 epochs" in plan.describe()


def test_candidates_with_a_teacher_train_on_photos_without_tags_for_the_recipes_epochs():
    work = Work(1000, 300, teacher_epochs=7, stage1_epochs=3, unlabelled=400)
    seconds = choose_plan(None, work, measure, CANDIDATES, (128, 384, 20)).seconds
    expected = choose_plan(None, WORK, measure, CANDIDATES, (128, 384, 20)).seconds
    assert seconds[CANDIDATES[0].title] == expected[CANDIDATES[0].title]  # plain
    assert seconds[CANDIDATES[1].title] == pytest.approx(1400 * (20 * 0.03 + 0.06) + 300 * 0.01 + START)
    assert seconds["teacher"] == pytest.approx(1700 * 0.3 + 1000 * 7 * 0.21 + 1700 * 0.1 + START)
    assert seconds[CANDIDATES[4].title] == pytest.approx(1400 * 23 * 0.03 + 300 * 0.01 + 2 * START)


@pytest.mark.parametrize("budget", [300, 900, 3000, 6000, 40000])
def test_a_plan_never_exceeds_the_budget_and_grows_with_it(budget):
    plan = choose_plan(budget, WORK, measure, CANDIDATES, (128, 384, 20))
    assert sum(plan.seconds.values()) <= budget * 0.85
    assert plan.candidates[0] is CANDIDATES[0]
    smaller = choose_plan(budget / 1.5, WORK, measure, CANDIDATES, (128, 384, 20))
    assert (smaller.size, smaller.epochs) <= (plan.size, plan.epochs)
    larger = [option for option in SIZES if option[0] > plan.size]
    for size, teacher_size, epochs in larger:  # plain and the cheapest distillation would not fit
        costs = measure(size, teacher_size)
        assert 2 * 1000 * epochs * (costs.reading + costs.student) + 2 * START > budget * 0.765


def test_plain_alone_where_nothing_else_fits():
    assert choose_plan(250, WORK, measure, CANDIDATES, (128, 384, 20)).candidates[0] is CANDIDATES[0]
    with pytest.raises(ValueError, match="--budget 60 s is too short for 1000 photos: .* takes about 9. s|min"):
        choose_plan(60, WORK, measure, CANDIDATES, (128, 384, 20))


@pytest.mark.parametrize(
    "text, seconds", [("2h", 7200), ("90min", 5400), ("1h30min", 5400), ("45s", 45), ("1.5h", 5400)]
)
def test_times(text, seconds):
    assert parse_time(text) == seconds


@pytest.mark.parametrize("text", ["", "2", "h", "2 days", "-2h"])
def test_what_is_no_time(text):
    with pytest.raises(ValueError, match="write a time like 2h"):
        parse_time(text)


def test_times_for_the_user():
    assert [describe_time(s) for s in (40, 89, 720, 3900)] == ["40 s", "89 s", "12 min", "1 h 05 min"]


def test_steps_of_the_recipes_models_are_timed():
    opts = ["dataset.name=digit_scenes", "train.student_size=32", "train.teacher_size=64", "proposals.num_proposals=4"]
    configs = ROOT / "configs" / "efficientnet_lite0"
    student, teacher = (load_config(str(configs / f"{name}.py"), opts) for name in ("student", "teacher"))
    for seconds in (*time_student(student, 64, batch=2), *time_teacher(teacher, batch=1)):
        assert 1e-4 < seconds < 10
