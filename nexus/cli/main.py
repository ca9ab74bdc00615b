"""The `nexus` command: its verbs, its exit codes, and what a failure looks like.

A verb is a function in a file of its own, imported when it is called. Data goes to stdout,
messages to stderr. Exit codes:

0    all done
1    something failed: an input (the others were done), or a file that cannot be written
2    wrong usage or arguments
3    the model's weights are not available or not usable
130  interrupted
141  the reader of stdout went away
"""

from __future__ import annotations

import contextlib
import difflib
import importlib
import os
import sys
import traceback
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

import typer
import typer.core
import typer.main

from nexus.core.errors import InputError, NexusError, NexusWarning, WeightsError

EXIT_FAILED, EXIT_USAGE, EXIT_WEIGHTS = 1, 2, 3
EXIT_INTERRUPTED, EXIT_PIPE_CLOSED = 130, 141

_EPILOG = """\b
Exit codes:
  0    all done
  1    something failed: an input (the others were done), or a file that cannot be written
  2    wrong usage or arguments
  3    the model's weights are not available or not usable
  130  interrupted
  141  the reader of stdout went away

NEXUS_DEBUG=1 shows where an error comes from. NEXUS_HOME is where weights are kept."""


@dataclass(frozen=True)
class _Verb:
    """Where a verb's function is, and what the list of verbs says about it.

    Attributes:
        module: The file.
        function: The verb.
        summary: Its line in the list.
        bare: What an option means that is given without a value.
    """

    module: str
    function: str
    summary: str
    bare: Mapping[str, str] = field(default_factory=dict)

    def completed(self, args: list[str]) -> list[str]:
        """Return the arguments with the values of options given without one."""
        full = []
        for index, arg in enumerate(args):
            full.append(arg)
            is_last = index + 1 == len(args)
            if arg in self.bare and (is_last or args[index + 1].startswith("--")):
                full.append(self.bare[arg])
        return full


_VERBS = {
    "segment": _Verb("nexus.cli.segment", "segment", "Segment objects in images, by box or point."),
    "generate": _Verb(
        "nexus.cli.generate",
        "generate",
        "Find all masks in images and write a dataset of them.",
        {"--ray": "local"},
    ),
    "track": _Verb(
        "nexus.cli.track", "track", "Track objects through a video, by box, point or mask."
    ),
    "evaluate": _Verb(
        "nexus.cli.evaluate", "evaluate", "Evaluate a model on a dataset, or compare two such runs."
    ),
    "train": _Verb("nexus.cli.train", "train", "Fine-tune a model on labelled images."),
    "models": _Verb("nexus.cli.models", "models", "List the models and which are on this machine."),
}


class _Verbs(typer.core.TyperGroup):
    """The table of verbs as a command group that imports none of them before it is called."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names of the verbs."""
        return list(_VERBS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Import a verb, or return None if there is none of that name."""
        verb = _VERBS.get(cmd_name)
        if verb is None:
            return None
        found = getattr(importlib.import_module(verb.module), verb.function)
        if isinstance(found, typer.Typer):  # a verb with verbs of its own
            return typer.main.get_command(found)
        one = typer.Typer(add_completion=False, rich_markup_mode=None)
        one.command(name=cmd_name)(found)
        return typer.main.get_command(one)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the verb, or name the nearest one."""
        if args[0] not in _VERBS:
            near = difflib.get_close_matches(args[0], _VERBS, n=1)
            ctx.fail(
                f"expected a verb among {', '.join(_VERBS)}, got {args[0]!r}"
                + (f"\nhint: did you mean {near[0]!r}?" if near else "")
            )
        return super().resolve_command(ctx, [args[0], *_VERBS[args[0]].completed(args[1:])])

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """List the verbs from the table."""
        with formatter.section("Verbs"):
            formatter.write_dl([(name, verb.summary) for name, verb in _VERBS.items()])

    def invoke(self, ctx: Any) -> Any:
        """Run a verb; turn what it raises into a message and an exit code."""
        with _failures_as_exit_codes():
            result = super().invoke(ctx)
            sys.stdout.flush()
        return result


@contextlib.contextmanager
def _failures_as_exit_codes() -> Iterator[None]:
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            yield
    except KeyboardInterrupt as error:
        _explain("interrupted", error)
        raise typer.Exit(EXIT_INTERRUPTED) from error
    except BrokenPipeError as error:
        # What is left in the buffer would fail again when the interpreter flushes it at its end.
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(EXIT_PIPE_CLOSED) from error
    except NexusError as error:
        _explain(f"error: {error}", error)
        codes = ((WeightsError, EXIT_WEIGHTS), (InputError, EXIT_USAGE))
        code = next((code for kind, code in codes if isinstance(error, kind)), EXIT_FAILED)
        raise typer.Exit(code) from error
    except OSError as error:
        _explain(f"error: {error}", error)
        raise typer.Exit(EXIT_FAILED) from error


def _explain(text: str, error: BaseException) -> None:
    if os.environ.get("NEXUS_DEBUG", "") not in ("", "0"):
        traceback.print_exception(type(error), error, error.__traceback__)
    typer.echo(text, err=True)


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: Any = None,
    line: str | None = None,
) -> None:
    """Print a warning of Nexus as one line, and others as Python does."""
    text = warnings.formatwarning(message, category, filename, lineno, line)
    if issubclass(category, NexusWarning):
        text = f"warning: {message}\n"
    typer.echo(text, err=True, nl=False)


def _print_version(wanted: bool) -> None:
    if wanted:
        from nexus import __version__

        typer.echo(f"nexus {__version__}")
        raise typer.Exit


app = typer.Typer(
    cls=_Verbs,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    epilog=_EPILOG,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def _nexus(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """Promptable segmentation: points, boxes and masks in; masks out."""


def main() -> None:
    """Run the command with the arguments of this process, and exit."""
    app(prog_name="nexus")
