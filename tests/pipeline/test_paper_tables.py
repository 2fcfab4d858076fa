from wsd_distill.pipeline.experiments import DISTILLED, PLAIN, PLAIN_LONG, PUBLISHED
from wsd_distill.pipeline.paper_tables import build_tables, write_tables


def test_table_of_unfinished_runs(finished, tmp_path):
    """Seed 1 has no stage 2 yet."""
    finished(0, "student", 70.0)
    finished(1, "student", 72.0)
    finished(0, "stage2", 75.0)
    (table,) = build_tables({1: ""}, tmp_path, 2, "digit_scenes")
    rows = {row.method: row for row in table.rows}
    later = ["L2D (Yang et al. 2023)", "Feature distillation (timm)"]
    assert list(rows)[:13] == list(PUBLISHED[1][0].rows) and list(rows)[13:] == [PLAIN_LONG, *later]
    assert rows[PLAIN].ours == [{"mAP": 70.0}, {"mAP": 72.0}] and rows[PLAIN].note == ""
    assert rows[DISTILLED].ours == [{"mAP": 75.0}, {}]
    assert rows["FitNets [23]"].ours == [{}, {}] and rows["FitNets [23]"].published["mAP"] == 72.5
    assert rows["RLSD [43]"].ours == [] and "not trained here" in rows["RLSD [43]"].note
    assert rows[PLAIN_LONG].published == {} and "not in the paper" in rows[PLAIN_LONG].note


def test_gains_on_another_dataset_differences_on_the_papers(finished, tmp_path):
    """Published: 70.9, 78.6, 74.6 on MS-COCO and 55.6, 58.2, 60.1 on NUS-WIDE."""
    for seed, (plain, teacher, distilled) in enumerate([(70.0, 80.0, 75.0), (72.0, 83.0, 79.0)]):
        finished(seed, "student", plain)
        finished(seed, "teacher", teacher)
        finished(seed, "stage2", distilled)
    commands = {3: "python tools/reproduce.py --tables 3"}  # once for MS-COCO, once for NUS-WIDE
    text = write_tables(tmp_path / "tables.md", build_tables(commands, tmp_path, 2, "digit_scenes"))
    assert text == (tmp_path / "tables.md").read_text() and text.count(commands[3]) == 2
    assert "| method | mAP, MS-COCO (gain) | mAP, digit_scenes (gain) |" in text
    assert "| S-Cls (w/o) | 70.9 | 71.0 ± 1.4 |" in text
    assert "| T-WDet | 78.6 (+7.7) | 81.5 ± 2.1 (+10.5 ± 0.7) |" in text
    assert "| S-Cls (w/) | 60.1 (+4.5) | 77.0 ± 2.8 (+6.0 ± 1.4) |" in text
    assert "| S-Cls (w/o), epochs of both stages † | - | - |" in text

    text = write_tables(tmp_path / "tables.md", build_tables(commands, tmp_path, 2, "MS-COCO"))
    assert "| method | mAP, published | mAP, ours (difference) |" in text
    assert "| T-WDet | 78.6 | 81.5 ± 2.1 (+2.9) |" in text
    assert "| method | mAP, NUS-WIDE (gain) | mAP, MS-COCO (gain) |" in text
