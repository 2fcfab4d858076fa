from wsd_distill.report.tables import Row, Table, describe_gains, markdown_table, mean_std


def test_mean_and_std_by_hand():
    assert mean_std([70.0]) == "70.0"
    assert mean_std([1.0, 2.0, 6.0]) == "3.0 ± 2.6"  # deviations -2, -1, 3: sqrt(14 / 2)
    assert mean_std([1.0, 2.0, 6.0], "+") == "+3.0 ± 2.6" and mean_std([-0.25], "+") == "-0.2"
    assert mean_std([]) == "-"


def rows():
    return [
        Row("S-Cls", {"mAP": 70.9}, [{"mAP": 70.0}, {"mAP": 71.0}, {"mAP": 75.0}]),
        Row("T-WDet", {"mAP": 78.6}, [{"mAP": 80.0, "CorLoc": 50.0}, {"mAP": 82.0, "CorLoc": 52.0}, {}]),
        Row("RLSD", {"mAP": 68.2}, [], "not ours"),
        Row("S-Cls, long", {}, [{}, {}, {"mAP": 76.0}], "not theirs"),
    ]


def test_table_with_gains_from_a_baseline():
    """T-WDet: 10 and 11 more in the two common seeds; 78.6 - 70.9 = 7.7, 68.2 - 70.9 = -2.7."""
    table = Table("", "", ["mAP", "CorLoc"], rows(), "S-Cls", published="MS-COCO", dataset="voc5")
    assert markdown_table(table).splitlines() == [
        "| method | mAP, MS-COCO (gain) | mAP, voc5 (gain) | CorLoc |",
        "| :-- | --: | --: | --: |",
        "| S-Cls | 70.9 | 72.0 ± 2.6 | - |",
        "| T-WDet (2 of 3 seeds) | 78.6 (+7.7) | 81.0 ± 1.4 (+10.5 ± 0.7) | 51.0 ± 1.4 |",
        "| RLSD † | 68.2 (-2.7) | - | - |",
        "| S-Cls, long ‡ (1 of 3 seeds) | - | 76.0 (+1.0) | - |",
        "",
        "† not ours",
        "",
        "‡ not theirs",
    ]


def test_table_with_differences_from_the_published_results():
    lines = markdown_table(Table("", "", ["mAP"], rows()[:3])).splitlines()
    assert lines[0] == "| method | mAP, published | mAP, ours (difference) |"
    assert lines[2:5] == [
        "| S-Cls | 70.9 | 72.0 ± 2.6 (+1.1) |",
        "| T-WDet (2 of 3 seeds) | 78.6 | 81.0 ± 1.4 (+2.4) |",
        "| RLSD † | 68.2 | - |",
    ]


def test_gains_over_common_seeds():
    table = Table("", "", ["mAP"], rows())
    assert describe_gains(table, "mAP", [("T-WDet", "S-Cls"), ("S-Cls, long", "T-WDet")]) == [
        "T-WDet minus S-Cls: 10.5 ± 0.7 mAP (seed by seed: +10.0, +11.0)"
    ]
