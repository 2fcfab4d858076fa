#!/usr/bin/env python
"""Run the paper's experiments on a dataset for several seeds; print its tables with our results beside the published.

    python tools/reproduce.py --dataset digit_scenes --seeds 3  # T-WDet, S-Cls with and without distillation; a figure
    python tools/reproduce.py --dataset digit_scenes --tables 1 2 3 4 5 --seeds 3 --report output/report
    python tools/reproduce.py --dataset coco_2014 --tables 5 --detector-config FILE --detector-weights FILE
    python tools/reproduce.py --dataset pets --tables 4 --opts dataset.files.train=... dataset.files.val=... ...

Each training runs once, for all tables that need it. Finished runs are kept; interrupted runs resume from their last
checkpoint. --output gets a folder per run (log, config, checkpoint, scores), and tables.md, or table.md and scenes.png.
"""

from __future__ import annotations

import wsd_distill  # noqa: F401  (first: it patches Detectron2 0.6 for a current PyTorch)

# isort: split
import argparse
import shlex
from pathlib import Path

from wsd_distill.engine.cli import expand_paths, report_user_errors
from wsd_distill.pipeline.experiments import PUBLISHED, get_trainings
from wsd_distill.pipeline.outputs import Outputs
from wsd_distill.pipeline.paper_tables import NAMES
from wsd_distill.pipeline.plan import RunPlan, record_settings
from wsd_distill.pipeline.scheduler import Run, default_jobs, run_missing

ROOT = Path(__file__).resolve().parent.parent


def parse_arguments() -> tuple[argparse.Namespace, RunPlan, list[Run]]:
    """Parse the arguments and plan the runs, so that errors in configs are found before the first run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--dataset", default="digit_scenes", help="dataset.name of the configs (default %(default)s)")
    add("--recipe", help="folder in configs/ (default: the one for the dataset)")
    add("--tables", type=int, nargs="+", default=[], choices=PUBLISHED, help="tables of the paper (default: the "
        "comparison of T-WDet and S-Cls with and without distillation, with their speed and a figure)")  # fmt: skip
    add("--seeds", type=int, default=3, help="seeds 0 to N - 1 (default %(default)s)")
    add("--output", type=Path, help="default: output/<dataset>")
    add("--jobs", type=int, default=default_jobs(), help="parallel runs, each on one GPU if any (default %(default)s)")
    add("--report", type=Path, metavar="DIR", help="write an HTML page about all runs to this folder")
    add("--print-only", action="store_true", help="start no run: only write tables and report of existing results")
    add("--detector-config", help="config of your detector for Table 5, instead of training one")
    add("--detector-weights", help="its checkpoint")
    add("--opts", nargs="+", default=[], metavar="key=value", help="overrides, each for every config with its key")
    arguments = expand_paths(parser.parse_args())
    if bool(arguments.detector_config) != bool(arguments.detector_weights):
        parser.error("--detector-config and --detector-weights go together")
    if arguments.seeds < 1 or arguments.jobs < 1:
        parser.error("--seeds and --jobs must be 1 or more")
    with report_user_errors(parser):
        return arguments, *make_plan(arguments)


def make_plan(arguments: argparse.Namespace) -> tuple[RunPlan, list[Run]]:
    """Plan the runs; none is a target with ``--print-only``."""
    detector = (arguments.detector_config, arguments.detector_weights) if arguments.detector_config else None
    plan = RunPlan(ROOT, arguments.dataset, arguments.recipe, arguments.output, arguments.opts, detector)
    names = [] if arguments.print_only else get_trainings(arguments.tables)
    return plan, plan.targets(names, arguments.seeds) if names else []


def get_command(arguments: argparse.Namespace, number: int) -> str:
    """The shell command that makes one table."""
    words = ["python", "tools/reproduce.py"]
    for name in ("dataset", "recipe", "tables", "seeds", "output", "detector_config", "detector_weights", "opts"):
        value = number if name == "tables" else getattr(arguments, name)
        if value:
            words += [f"--{name.replace('_', '-')}", *(value if isinstance(value, list) else [value])]
    return shlex.join(map(str, words))


def main() -> None:
    arguments, plan, targets = parse_arguments()
    if arguments.print_only and not plan.output.exists():
        raise SystemExit(f"{plan.output} does not exist: start the runs without --print-only, or set --output")
    detector = [arguments.detector_config, arguments.detector_weights] if arguments.detector_config else []
    record_settings(plan, detector if 5 in arguments.tables else None, write=bool(targets))
    failed, not_started = run_missing(targets, arguments.jobs)
    errors = [f"{run.name} failed: {run.log}" for run in failed]
    errors += [f"{run.name} was not started, because it depends on a failed run" for run in not_started]
    commands = {number: get_command(arguments, number) for number in arguments.tables}
    name = NAMES.get(arguments.dataset, arguments.dataset)
    outputs = Outputs(plan.output, name, arguments.seeds, commands, arguments.report)
    tables = outputs.build_tables()
    outputs.write(tables)  # first without the models, which may end this process
    errors += outputs.run_models(tables)
    print(outputs.write(tables))
    if errors:
        raise SystemExit("\n".join(errors))


if __name__ == "__main__":
    main()
