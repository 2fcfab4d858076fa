"""The paper's figures: some by hand, the others by what must agree with what."""

from wsd_distill.reproduction.published import BASELINE, COCO, DISTILLED, NUS_WIDE, PLAIN, PUBLISHED, TEACHER


def test_cells_by_hand():
    """Those of Table 2 that its scan shifts to the right, the corners of both tables, and cells between holes."""
    coco, nus_wide = PUBLISHED[1][0], PUBLISHED[2][0]
    assert nus_wide.figures("CNN-RNN [32]") == {"CF1-top3": 34.7, "OF1-top3": 55.2}
    assert nus_wide.figures("Tag-Neighbors [15]") == {"mAP": 52.8, "CF1-top3": 45.2, "OF1-top3": 62.5}
    assert nus_wide.figures("KCCA [30]") == {"mAP": 52.2}
    assert coco.figures("CNN-SREL-RNN [21]") == {"CF1": 63.4, "OF1": 72.5}
    assert coco.figures("RMAM (512+10crop) [33]") == {"mAP": 72.2, "CF1-top3": 66.5, "OF1-top3": 71.3}
    best = {"mAP": 74.6, "CF1": 69.2, "OF1": 74.0, "CF1-top3": 66.8, "OF1-top3": 72.7}
    assert coco.figures(DISTILLED) == best
    assert nus_wide.figures("Attention transfer [42]")["OF1-top3"] == 68.8
    assert coco.figures("S-Cls of ours") == {}


def test_tables_have_the_papers_rows():
    assert [len(part.rows) for number in (1, 2, 4, 5) for part in PUBLISHED[number]] == [13, 12, 5, 5]
    assert [(part.dataset, len(part.rows)) for part in PUBLISHED[3]] == [(COCO, 3), (NUS_WIDE, 3)]
    for part in [part for parts in PUBLISHED.values() for part in parts]:
        assert part.baseline in part.rows
        assert {len(figures) for figures in part.rows.values()} == {len(part.metrics)}


def test_tables_agree_where_they_say_the_same():
    coco, nus_wide = PUBLISHED[3]
    parts, proposals = PUBLISHED[4][0], PUBLISHED[5][0]
    for number, part in ((1, coco), (2, nus_wide)):
        for method in (PLAIN, DISTILLED):
            assert PUBLISHED[number][0].figures(method)["mAP"] == part.figures(method)["mAP"]
    for table in (parts, proposals):
        assert table.figures(BASELINE) == coco.figures(PLAIN)
    assert parts.figures("+ Distillation [12]")["mAP"] == PUBLISHED[1][0].figures("Distillation [12]")["mAP"]
    assert parts.figures("+ RoI-aware transfer + Class-aware transfer") == coco.figures(DISTILLED)
    assert proposals.figures("S-Cls (EdgeBoxes [47])") == coco.figures(DISTILLED)
    assert proposals.figures("T-WDet (EdgeBoxes [47])") == coco.figures(TEACHER)


def test_the_best_is_ours_as_the_text_says():
    """Section 4.3; in Table 1 the second best of top-3 F1 are RMAM's."""
    for number in (1, 2):
        part = PUBLISHED[number][0]
        for metric in part.metrics:
            others = [part.figures(method).get(metric, 0) for method in part.rows if method != DISTILLED]
            assert part.figures(DISTILLED)[metric] > max(others)
