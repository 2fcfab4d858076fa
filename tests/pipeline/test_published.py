"""The paper's results: some checked by hand, others against each other."""

import csv
from pathlib import Path

from wsd_distill.pipeline import experiments
from wsd_distill.pipeline.experiments import BASELINE, COCO, DISTILLED, NUS_WIDE, PLAIN, PUBLISHED, TEACHER


def test_cells_by_hand():
    """Rows that the scan of Table 2 shifts to the right, corners of both tables, cells between empty ones."""
    coco, nus_wide = PUBLISHED[1][0], PUBLISHED[2][0]
    assert nus_wide.rows["CNN-RNN [32]"] == {"CF1-top3": 34.7, "OF1-top3": 55.2}
    assert nus_wide.rows["Tag-Neighbors [15]"] == {"mAP": 52.8, "CF1-top3": 45.2, "OF1-top3": 62.5}
    assert nus_wide.rows["KCCA [30]"] == {"mAP": 52.2}
    assert coco.rows["CNN-SREL-RNN [21]"] == {"CF1": 63.4, "OF1": 72.5}
    assert coco.rows["RMAM (512+10crop) [33]"] == {"mAP": 72.2, "CF1-top3": 66.5, "OF1-top3": 71.3}
    best = {"mAP": 74.6, "CF1": 69.2, "OF1": 74.0, "CF1-top3": 66.8, "OF1-top3": 72.7}
    assert coco.rows[DISTILLED] == best
    assert nus_wide.rows["Attention transfer [42]"]["OF1-top3"] == 68.8
    assert coco.rows.get("S-Cls of ours") is None


def test_number_of_rows():
    assert [len(part.rows) for number in (1, 2, 4, 5) for part in PUBLISHED[number]] == [13, 12, 5, 5]
    assert [(part.dataset, len(part.rows)) for part in PUBLISHED[3]] == [(COCO, 3), (NUS_WIDE, 3)]
    assert [part.rows for part in PUBLISHED[experiments.BEYOND]] == [{}]
    for part in [part for parts in PUBLISHED.values() for part in parts if part.rows]:
        assert part.baseline in part.rows
        assert all(set(results) <= set(part.metrics) for results in part.rows.values())
    with open(Path(experiments.__file__).with_name("paper_tables.csv"), newline="") as file:
        assert {len(cells) for cells in csv.reader(file)} == {4 + len(experiments.ALL_AND_TOP3)}


def test_results_shown_in_several_tables_are_equal():
    coco, nus_wide = PUBLISHED[3]
    parts, proposals = PUBLISHED[4][0], PUBLISHED[5][0]
    for number, part in ((1, coco), (2, nus_wide)):
        for method in (PLAIN, DISTILLED):
            assert PUBLISHED[number][0].rows[method]["mAP"] == part.rows[method]["mAP"]
    for table in (parts, proposals):
        assert table.rows[BASELINE] == coco.rows[PLAIN]
    assert parts.rows["+ Distillation [12]"]["mAP"] == PUBLISHED[1][0].rows["Distillation [12]"]["mAP"]
    assert parts.rows["+ RoI-aware transfer + Class-aware transfer"] == coco.rows[DISTILLED]
    assert proposals.rows["S-Cls (EdgeBoxes [47])"] == coco.rows[DISTILLED]
    assert proposals.rows["T-WDet (EdgeBoxes [47])"] == coco.rows[TEACHER]


def test_distilled_student_is_best():
    """Section 4.3; in Table 1 the second best of top-3 F1 are of RMAM."""
    for number in (1, 2):
        part = PUBLISHED[number][0]
        for metric in part.metrics:
            others = [part.rows[method].get(metric, 0) for method in part.rows if method != DISTILLED]
            assert part.rows[DISTILLED][metric] > max(others)
