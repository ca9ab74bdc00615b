"""Options that several verbs have, the model they name, and how results are printed."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer
from typer import Option

from nexus.core.log import is_quiet

_CHECKPOINT = "Weights to load instead of the published ones; --model says of which kind."
_RAY = (
    "Work on the Ray cluster at this address; without an address, as the last option or before "
    "another, on one started on this machine."
)
_DEVICE = "cpu, cuda, cuda:1 or mps; if not given, the best."
_DTYPE = "float32, bfloat16 or float16; if not given, float32."
_JSON = "Print one JSON document of the results, not their paths."
_OUT = "Folder for what is written; made if it is not there."
_OVERWRITE = (
    "Remove what Nexus made in the folder of --out and begin anew; without it nothing is replaced "
    "that Nexus did not make."
)
_THREADS = "Threads in each process; if not given, the cores are shared out evenly."
_PIXELS = "Refuse images and frames with more pixels; 0 for no limit."

Model = Annotated[str, Option(metavar="NAME", help="A name of `nexus models`.")]
Checkpoint = Annotated[Path | None, Option(metavar="FILE", help=_CHECKPOINT)]
Device = Annotated[str | None, Option(metavar="DEVICE", help=_DEVICE)]
Dtype = Annotated[str | None, Option(metavar="DTYPE", help=_DTYPE)]
MaxPixels = Annotated[int, Option(metavar="N", min=0, help=_PIXELS)]
Threads = Annotated[int | None, Option(metavar="N", min=1, help=_THREADS)]
Out = Annotated[Path, Option(metavar="DIR", help=_OUT)]
Overwrite = Annotated[bool, Option("--overwrite", help=_OVERWRITE)]
Resume = Annotated[bool, Option("--resume", hidden=True)]  # of old command lines; it goes on anyway
Json = Annotated[bool, Option("--json", help=_JSON)]
Texts = list[str] | None
Ray = Annotated[str | None, Option(metavar="[ADDRESS]", help=_RAY)]


def loaded(model: str, checkpoint: Path | None, device: str | None, dtype: str | None) -> Any:
    """Load the model that the options name; torch is imported no earlier than here."""
    from nexus.models.cv import load_model

    return load_model(model, checkpoint=checkpoint, device=device, dtype=dtype)


def note(text: str) -> None:
    """Print what is good to know on stderr, unless --quiet is given."""
    if not is_quiet():
        typer.echo(text, err=True)


def print_results(files: Iterable[Path], document: Any = None) -> None:
    """Print a document as JSON; without one, the paths of files, one a line."""
    if document is not None:
        typer.echo(json.dumps(document, indent=2))
        return
    for path in files:
        typer.echo(str(path))
