#!/usr/bin/env python
"""Run the paper's experiments on a dataset, several seeds, and print its tables with our figures beside its own.

    python tools/reproduce.py --dataset digit_scenes --tables 1 2 3 4 5 --seeds 3 --report output/report
    python tools/reproduce.py --dataset digit_scenes --seeds 3    # T-WDet, S-Cls with and without it; a picture
    python tools/reproduce.py --dataset coco --tables 5 --detector-config FILE --detector-weights FILE
    python tools/reproduce.py --dataset image_list --tables 4 --opts dataset.name=pets dataset.files.train=...

Only what a table needs is trained, and once for all tables. Finished runs are kept, an interrupted one goes on from its
last checkpoint. Everything lands in --output: a folder for each run with its log, configuration, checkpoint and scores;
tables.md, or table.md and scenes.png; --report writes a page about all of it.
"""

from __future__ import annotations

import wsd_distill  # noqa: F401  (first: it patches Detectron2 0.6 for a current PyTorch)

# isort: split
import argparse
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from wsd_distill.report.table import Table
from wsd_distill.reproduction.comparison import add_speed, build_comparison, draw_comparison, write_comparison
from wsd_distill.reproduction.matrix import Detector, RunPlan
from wsd_distill.reproduction.page import write_page
from wsd_distill.reproduction.published import PUBLISHED
from wsd_distill.reproduction.recipes import COMPARISON, ROWS
from wsd_distill.reproduction.runs import Run, default_jobs, finish
from wsd_distill.reproduction.tables import NAMES, build_tables, write_tables

ROOT = Path(__file__).resolve().parent.parent


def parse_arguments() -> tuple[argparse.Namespace, RunPlan, list[Run]]:
    """Arguments, the runs that there are, and those to be done; their configs are read before the work begins."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    datasets = sorted(path.parent.name for path in ROOT.glob("configs/*/data.py") if path.parent.name != "common")
    tables = "tables of the paper; without, T-WDet and S-Cls with and without distillation, their speed and a picture"
    parser.add_argument("--dataset", default="digit_scenes", choices=datasets)
    parser.add_argument("--tables", type=int, nargs="+", choices=PUBLISHED, help=tables)
    parser.add_argument("--seeds", type=int, default=3, help="seeds 0 to N - 1 (default 3)")
    parser.add_argument("--output", type=Path, help="default: output/<dataset>")
    jobs = "runs at once, each on one GPU where there are any (default %(default)s here)"
    parser.add_argument("--jobs", type=int, default=default_jobs(), help=jobs)
    parser.add_argument("--report", type=Path, metavar="DIR", help="write one HTML page about all runs there")
    parser.add_argument("--print-only", action="store_true", help="start nothing: tables and report of what is there")
    parser.add_argument("--detector-config", help="your detector for Table 5, instead of training one")
    parser.add_argument("--detector-weights", help="its checkpoint")
    parser.add_argument(
        "--opts", nargs="+", default=[], metavar="key=value", help="overrides of every config with this key"
    )
    arguments = parser.parse_args()
    if bool(arguments.detector_config) != bool(arguments.detector_weights):
        parser.error("--detector-config and --detector-weights go together")
    if arguments.seeds < 1 or arguments.jobs < 1:
        parser.error("--seeds and --jobs are 1 or more")
    try:
        return arguments, *plan(arguments)
    except (ValueError, FileNotFoundError, OmegaConfBaseException) as error:
        parser.error(str(error))


def plan(arguments: argparse.Namespace) -> tuple[RunPlan, list[Run]]:
    detector = Detector(arguments.detector_config, arguments.detector_weights) if arguments.detector_config else None
    matrix = RunPlan(ROOT, arguments.dataset, arguments.output, arguments.opts, detector)
    if arguments.print_only:
        return matrix, []
    tables = [ROWS[number] for number in arguments.tables] if arguments.tables else [COMPARISON]
    return matrix, matrix.goals([run for rows in tables for run in rows.values()], arguments.seeds)


def notes(arguments: argparse.Namespace) -> dict[str, str]:
    """Of what the user changes in the runs of --output, a file each: its overrides, and for Table 5 the detector."""
    detector = [arguments.detector_config, arguments.detector_weights] if arguments.detector_config else []
    found = {"opts.txt": arguments.opts, **({"detector.txt": detector} if 5 in (arguments.tables or []) else {})}
    return {name: "\n".join(lines) for name, lines in found.items()}


def check_output_dir(matrix: RunPlan, provenance: dict[str, str]) -> None:
    """Before anything is done or shown; what a folder has no note of is taken as it is.

    Raises:
        SystemExit: runs in the folder are of another dataset, or made with other overrides or another detector.
    """
    output = matrix.output
    for config in [*output.glob("seed*/*/config.yaml"), *output.glob("detector/config.yaml")]:
        trained = OmegaConf.load(config).dataset.train
        if trained != matrix.train_set:
            raise SystemExit(f"{config.parent} is of {trained}, not of {matrix.train_set}: give another --output")
    for name, text in provenance.items():
        note = output / name
        before = note.read_text() if note.exists() else text
        if before != text and any(output.glob("seed*")):
            words = shlex.join(before.splitlines()) or f"no {'--opts' if name == 'opts.txt' else 'detector of yours'}"
            raise SystemExit(f"the runs in {output} were made with {words}: give the same, or another --output")


def train(goals: list[Run], jobs: int) -> list[str]:
    """All that is missing; returns what went wrong."""
    failed, left_out = finish(goals, jobs)
    lines = [f"{run.name} failed: {run.log}" for run in failed]
    return lines + [f"{run.name} was not started: it needs what failed" for run in left_out]


def build(matrix: RunPlan, arguments: argparse.Namespace) -> list[Table]:
    """Tables of the paper, or the one of the comparison."""
    name = display_name(matrix, arguments)
    if arguments.tables:
        return build_tables(arguments.tables, matrix.output, arguments.seeds, name)
    return [build_comparison(matrix.output, arguments.seeds, name)]


def write(matrix: RunPlan, arguments: argparse.Namespace, tables: list[Table]) -> str:
    """Tables, and the page where one is asked for, to files; returns the tables, and where all is."""
    output, name = matrix.output, display_name(matrix, arguments)
    if arguments.tables:
        path = output / "tables.md"
        commands = [command(arguments, number) for number in arguments.tables for _ in PUBLISHED[number]]
        text = write_tables(path, tables, name, commands)
    else:
        path = output / "table.md"
        text = write_comparison(path, tables[0])
    told = f"\n{text}\nTable{'s' if arguments.tables else ''}: {path}"
    if arguments.report:
        page = write_page(arguments.report, output, arguments.seeds, name, arguments.tables or [], tables)
        told += f"\nReport: {page}"
    return told


def display_name(matrix: RunPlan, arguments: argparse.Namespace) -> str:
    """Of the dataset, the paper's where it has one."""
    return NAMES.get(arguments.dataset, matrix.name)


def run_models(matrix: RunPlan, arguments: argparse.Namespace, tables: list[Table]) -> list[str]:
    """Add speeds to the table of the comparison, and draw the picture; returns what went wrong."""
    problems, folder, picture = [], matrix.output / "seed0", matrix.output / "scenes.png"
    if not arguments.tables and all(row.ours[0] for row in tables[0].rows):
        with collect_errors(problems, "Images a second were not measured"):
            add_speed(tables[0], folder)
    if arguments.report or not arguments.tables:
        with collect_errors(problems, "The picture was not drawn"):
            if draw_comparison(picture, folder):
                print(f"Picture: {picture}")
    return problems


@contextmanager
def collect_errors(problems: list[str], consequence: str) -> Iterator[None]:
    """Whatever goes wrong here is one more of the problems, and costs nothing that comes after."""
    try:
        yield
    except Exception as error:
        problems.append(f"{consequence} ({type(error).__name__}): {str(error).partition(chr(10))[0]}")


def command(arguments: argparse.Namespace, number: int) -> str:
    """What makes one table, to be given to a shell."""
    words = ["python", "tools/reproduce.py", "--dataset", arguments.dataset, "--tables", number]
    words += ["--seeds", arguments.seeds]
    words += ["--output", arguments.output] if arguments.output else []
    if arguments.detector_config:
        words += ["--detector-config", arguments.detector_config, "--detector-weights", arguments.detector_weights]
    words += ["--opts", *arguments.opts] if arguments.opts else []
    return shlex.join(map(str, words))


def main() -> None:
    arguments, matrix, goals = parse_arguments()
    if arguments.print_only and not matrix.output.exists():
        raise SystemExit(f"{matrix.output} is not there: start the runs without --print-only, or name their --output")
    provenance = notes(arguments)
    check_output_dir(matrix, provenance)
    if goals:
        matrix.output.mkdir(parents=True, exist_ok=True)
        for name, text in provenance.items():
            (matrix.output / name).write_text(text)
    problems = train(goals, arguments.jobs)
    tables = build(matrix, arguments)
    write(matrix, arguments, tables)  # models are run after it, and may end this process
    problems += run_models(matrix, arguments, tables)
    print(write(matrix, arguments, tables))
    if problems:
        raise SystemExit("\n".join(problems))


if __name__ == "__main__":
    main()
