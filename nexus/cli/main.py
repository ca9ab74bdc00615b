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
import importlib
import os
import sys
import textwrap
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
import typer.core
import typer.main

from nexus.cli.spelling import as_options
from nexus.cli.verb import VERBS, completer, finished
from nexus.core.choices import did_you_mean
from nexus.core.errors import (
    InputError,
    NexusError,
    NexusWarning,
    WeightsError,
    arguments_spelled,
)
from nexus.core.log import asked_for, is_quiet, saying
from nexus.version import __version__

EXIT_FAILED, EXIT_USAGE, EXIT_WEIGHTS = 1, 2, 3
EXIT_INTERRUPTED, EXIT_PIPE_CLOSED = 130, 141

_CODES = textwrap.indent((__doc__ or "").partition("Exit codes:\n\n")[2], "  ")
_EPILOG = f"""\b
Exit codes:
{_CODES}
NEXUS_DEBUG=1 shows where an error comes from. NEXUS_HOME is where weights are kept. NEXUS_LOG
is quiet, warning, info or debug: what --quiet and --verbose choose."""


_VERB = "nexus.verb"


class _Verbs(typer.core.TyperGroup):
    """The table of verbs as a command group that imports none of them before it is called."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        finished(self, "")

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names of the verbs."""
        return list(VERBS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Import a verb, or return None if there is none of that name."""
        if cmd_name not in VERBS:
            return None
        found = getattr(importlib.import_module(f"nexus.cli.{cmd_name}"), cmd_name)
        if isinstance(found, typer.Typer):  # a verb with verbs of its own
            return finished(typer.main.get_command(found), cmd_name)
        verb_app = typer.Typer(add_completion=False, rich_markup_mode=None)
        verb_app.command(name=cmd_name)(found)
        return finished(typer.main.get_command(verb_app), cmd_name)

    def shell_complete(self, ctx: Any, incomplete: str) -> Any:
        """Complete the name of a verb from the table, or an option."""
        if incomplete.startswith("-"):
            return super().shell_complete(ctx, incomplete)
        return completer(lambda: VERBS)(ctx, incomplete)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the verb, or name the nearest one."""
        if args[0] not in VERBS:
            hint = did_you_mean(args[0], VERBS)
            ctx.fail(
                f"expected a verb among {', '.join(VERBS)}, got {args[0]!r}"
                + (f"\nhint: {hint}" if hint else "")
            )
        found = super().resolve_command(ctx, _with_addresses(args))
        ctx.meta[_VERB] = found[1]
        return found

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """List the verbs from the table."""
        with formatter.section("Verbs"):
            formatter.write_dl([*VERBS.items()])

    def invoke(self, ctx: Any) -> Any:
        """Run a verb; turn what it raises into a message and an exit code."""
        spelled = arguments_spelled(lambda text: _in_options(ctx, text))
        with spelled, _failures_as_exit_codes():
            ctx.with_resource(saying(asked_for()))
            result = super().invoke(ctx)
            sys.stdout.flush()
        return result


def _in_options(ctx: Any, text: str) -> str:
    """Write the arguments that a text names as options of the verb at hand."""
    verb = ctx.meta.get(_VERB)
    return text if verb is None else as_options(verb)(text)


def _with_addresses(args: list[str]) -> list[str]:
    """Return the arguments with the address of `--ray`, where it is given without one."""
    full = []
    for arg, following in zip(args, [*args[1:], "--"], strict=True):
        full += [arg, "local"] if arg == "--ray" and following.startswith("--") else [arg]
    return full


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
    except (NexusError, OSError) as error:
        _explain(f"error: {error}", error)
        codes = ((WeightsError, EXIT_WEIGHTS), (InputError, EXIT_USAGE))
        code = next((code for kind, code in codes if isinstance(error, kind)), EXIT_FAILED)
        raise typer.Exit(code) from error


def _explain(text: str, error: BaseException) -> None:
    if os.environ.get("NEXUS_DEBUG", "") not in ("", "0"):
        traceback.print_exception(type(error), error, error.__traceback__)
    typer.echo(text, err=True)


def _show_warning(
    message: Any, category: Any, filename: str, lineno: int, file: Any = None, line: Any = None
) -> None:
    """Print a warning of Nexus as one line, and others as Python does; none if quiet."""
    if is_quiet():
        return
    text = warnings.formatwarning(message, category, filename, lineno, line)
    if issubclass(category, NexusWarning):
        text = f"warning: {message}\n"
    typer.echo(text, err=True, nl=False)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"nexus {__version__}")
        raise typer.Exit


app = typer.Typer(
    cls=_Verbs,
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
    """Promptable segmentation: points, boxes and masks in; masks, tracks and datasets out."""


def run_script(run: Callable[[], None]) -> None:
    """Run the function of a script as a verb is run, with the same messages and exit codes."""
    try:
        with _failures_as_exit_codes():
            run()
    except typer.Exit as end:
        sys.exit(end.exit_code)


def main() -> None:
    """Run the command with the arguments of this process, and exit."""
    if "_NEXUS_COMPLETE" in os.environ:
        # A shell waits for the answer. Typer would import rich to format what has no format.
        sys.modules.setdefault("rich", None)  # type: ignore[arg-type]
    if sys.stderr is None:  # closed, as by 2>&-; nothing is said then
        sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - to the end
    if sys.stdout is None:
        closed = NexusError(
            "expected a stdout to print results to, got a closed one",
            hint="> /dev/null drops what is printed",
        )
        typer.echo(f"error: {closed}", err=True)
        sys.exit(EXIT_FAILED)
    app(prog_name="nexus")
