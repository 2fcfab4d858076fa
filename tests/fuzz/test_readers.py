"""Each reader reads a damaged file right, or raises our error that names it (200 files; more: ``make fuzz``)."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fuzz.formats import FORMATS
from fuzz.outcome import judge

EXAMPLES = 200


@pytest.mark.parametrize("name", FORMATS)
def test_damaged_file_is_read_right_or_refused_by_name(name, tmp_path, monkeypatch):
    found = FORMATS[name]
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    path = tmp_path / found.file
    path.parent.mkdir(parents=True, exist_ok=True)
    found.write(path)
    sound = repr(found.read(path))  # also writes a cache
    data = path.read_bytes()

    @settings(
        max_examples=-(-EXAMPLES // len(FORMATS)),
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.one_of(*(damage(data) for damage in found.damages)))
    def check(damaged):
        assert judge(found, path, sound, damaged) in ("read", "refused")

    check()
