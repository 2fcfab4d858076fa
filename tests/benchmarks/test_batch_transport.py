import re

from helpers.benchmarks import load_benchmark


def test_table_has_a_ratio_for_each_process(monkeypatch, capsys):
    benchmark = load_benchmark("batch_transport")
    monkeypatch.setattr("sys.argv", ["batch_transport.py", "--batches", "2", "--rounds", "1"])
    benchmark["main"]()
    rows = [re.split(r" *\| *", line)[1:-1] for line in capsys.readouterr().out.splitlines()[2:]]
    assert [row[0] for row in rows] == list(benchmark["CASES"])
    for row in rows:
        assert len(row) == 7 and all(float(cell) > 0 for cell in row[1:])
