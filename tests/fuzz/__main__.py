"""Read thousands of damaged files with every reader, and print a table of counts.

    PYTHONPATH=tests python -m fuzz [--examples 1000] [--seed N] [--format "list .csv" ...]

Each format is read in a process of its own, so that a crash is counted too. The exit status is 1 if any reader failed;
the first file of each kind of failure is kept in ``--keep``.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

MEMORY = 16e9  # bytes of address space for one format


def fuzz(name: str, examples: int, seed_value: int, keep: Path) -> None:
    """Print the outcome of each file of one format on a line."""
    from hypothesis import HealthCheck, given, seed, settings
    from hypothesis import strategies as st

    from fuzz.formats import FORMATS
    from fuzz.outcome import judge

    resource.setrlimit(resource.RLIMIT_AS, (int(MEMORY), int(MEMORY)))
    found, seen = FORMATS[name], set()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["DETECTRON2_DATASETS"] = folder
        path = Path(folder) / found.file
        path.parent.mkdir(parents=True, exist_ok=True)
        found.write(path)
        sound = repr(found.read(path))  # also writes a cache
        data = path.read_bytes()

        @seed(seed_value)
        @settings(max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck))
        @given(st.one_of(*(damage(data) for damage in found.damages)))
        def run(damaged):
            (keep / f"last_{path.name}").write_bytes(damaged)  # in case the reader crashes
            outcome = judge(found, path, sound, damaged).replace("\n", " ")
            kind = outcome[:40]
            if outcome not in ("read", "refused") and kind not in seen:
                seen.add(kind)
                (keep / f"{len(seen)}_{path.name}").write_bytes(damaged)
            print(outcome, flush=True)

        run()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=1000, help="files of each format (default %(default)s)")
    parser.add_argument("--seed", type=int, default=random.randrange(2**31), help="default: another one each time")
    parser.add_argument("--format", nargs="+", help="default: all")
    parser.add_argument("--keep", type=Path, default=Path("output/fuzz"), help="folder (default %(default)s)")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    arguments.keep.mkdir(parents=True, exist_ok=True)
    if arguments.child:
        fuzz(arguments.format[0], arguments.examples, arguments.seed, arguments.keep)
        return
    from tabulate import tabulate

    from fuzz.formats import FORMATS

    table, failures = [], []
    for name in arguments.format or FORMATS:
        options = ["--examples", arguments.examples, "--seed", arguments.seed, "--keep", arguments.keep]
        command = [sys.executable, "-m", "fuzz", "--child", "--format", name, *map(str, options)]
        done = subprocess.run(command, capture_output=True, text=True)
        counts = Counter(done.stdout.splitlines())
        read, refused = counts.pop("read", 0), counts.pop("refused", 0)
        crashed = done.returncode != 0
        table.append([name, read + refused + sum(counts.values()), read, refused, sum(counts.values()), crashed])
        failures += [f"{name}: {count} x {text}" for text, count in counts.most_common(5)]
        failures += [f"{name}: exit status {done.returncode}: {done.stderr[-500:]}"] if crashed else []
    headers = ["format", "files", "read", "refused by name", "failed", "crashed"]
    print(f"seed {arguments.seed}\n" + tabulate(table, headers=headers, tablefmt="pipe"))
    if failures:
        raise SystemExit("\n".join(failures))


if __name__ == "__main__":
    main()
