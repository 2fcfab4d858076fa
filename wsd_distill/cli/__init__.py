"""The command ``wsd``: one module of this package per subcommand, imported when it is used."""

from __future__ import annotations

import argparse
import difflib
import importlib
import sys
from collections.abc import Sequence

from .. import __version__

COMMANDS = {  # name -> help; module <name>.py has add_arguments(parser) and run(arguments) -> exit code
    "train": "train a tagger on photos with tags, and write a model folder and a report",
    "audit": "list labels that look wrong or missing, on a page to decide about them",
    "check": "check photos and their tags before training",
    "export": "write a model folder from a run, an int8 model beside one, or a web page",
    "predict": "write the labels of photos, in parts, from folders, tar shards and Parquet",
    "serve": "serve a web page that runs a tagger in the browser, with boxes where a teacher is at hand",
}
EXTRAS = {"onnx": "export", "onnxscript": "export", "safetensors": "export", "onnxruntime": "onnx", "ray": "cluster"}
USER_ERRORS = (OSError, ValueError, KeyError, RuntimeError, ArithmeticError, ImportError)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Returns:
        0; 1 if something was skipped or found wrong; 2 after an error that the user can fix, which is printed as one
        line. Other exceptions are raised.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    name = next((word for word in words if not word.startswith("-")), None)
    try:
        arguments, module = parse_arguments(words, name if name in COMMANDS else None)
    except SystemExit as error:  # argparse has printed help, version or an error
        return int(error.code or 0)
    except USER_ERRORS as error:
        return _report(name, error)
    try:
        return module.run(arguments)
    except USER_ERRORS as error:
        return _report(arguments.command, error)
    except KeyboardInterrupt:
        hint = ": start it again with --resume to go on" if hasattr(arguments, "resume") else ""
        print(f"wsd {arguments.command}: interrupted{hint}", file=sys.stderr)
        return 130


def parse_arguments(words: list[str], name: str | None):
    """Return the arguments and the module of the command ``name``; SystemExit if an argument is wrong."""
    parser = argparse.ArgumentParser("wsd", description="Train, use and ship taggers of photos.")
    parser.add_argument("--version", action="version", version=f"wsd_distill {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    module = importlib.import_module(f"{__name__}.{name}") if name else None
    children = {}
    for command, text in COMMANDS.items():
        child = commands.add_parser(command, help=text, description=module.__doc__ if command == name else "")
        children[command] = child
        if command == name and module:
            child.formatter_class = argparse.RawDescriptionHelpFormatter
            module.add_arguments(child)
    arguments, unknown = parser.parse_known_args(words)
    if unknown:
        children[arguments.command].error(_describe_unknown(unknown, children[arguments.command]))
    return arguments, module


def _describe_unknown(words: list[str], parser: argparse.ArgumentParser) -> str:
    """Return a sentence about unknown arguments, with the nearest option of each."""
    near = [difflib.get_close_matches(word.split("=")[0], parser._option_string_actions, n=1) for word in words]
    hint = f" (did you mean {', '.join(option for found in near for option in found)}?)" if any(near) else ""
    return f"unrecognized arguments: {' '.join(words)}{hint}"


def _report(command: str | None, error: Exception) -> int:
    text: object = error.args[0] if isinstance(error, KeyError) and error.args else error  # str(KeyError) adds quotes
    if isinstance(error, ModuleNotFoundError) and error.name:
        package = error.name.split(".")[0]
        extra = EXTRAS.get(package, "train")
        text = f"{package} is not installed: install the extra '{extra}', pip install wsd_distill[{extra}] (INSTALL.md)"
    print(f"wsd {command}: error: {' '.join(str(text).split()) or type(error).__name__}", file=sys.stderr)
    return 2
