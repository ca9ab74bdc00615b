r"""Dice of `nexus evaluate` beside that of the original pipeline, object by object.

    nexus evaluate --dataset folder --root DATA/SET ... --model lite_medsam --protocol box \
        --max-objects 20 --min-area 50 --out DIR
    python -m benchmarks.reference DIR DATA/lite_medsam_reference.json

The reference is a list of records `set, image, id, dsc`. Prints a row for each set and fails where
objects are missing or too many, or where a mean is off by more than 0.005.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from pathlib import Path

import numpy as np

TOLERANCE = 0.005

Key = tuple[str, str, int]


def main(arguments: list[str] | None = None) -> None:
    """Compare, and print a Markdown table to stdout."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("evaluation", type=Path, help="folder that nexus evaluate wrote")
    parser.add_argument("reference", type=Path, help="JSON file of the original's figures")
    options = parser.parse_args(arguments)
    with (options.evaluation / "objects.csv").open(newline="", encoding="utf-8") as file:
        ours = {
            (row["set"], row["image"], int(row["object_id"])): float(row["dice"])
            for row in csv.DictReader(file)
        }
    theirs = {
        (record["set"], record["image"], int(record["id"])): float(record["dsc"])
        for record in json.loads(options.reference.read_text("utf-8"))
    }
    problems = compare(ours, theirs)
    if problems:
        sys.exit("\n".join(problems))


def compare(ours: dict[Key, float], theirs: dict[Key, float]) -> list[str]:
    """Print the means of each set and the largest difference; return what is wrong."""
    problems = [f"not evaluated: {key}" for key in theirs.keys() - ours.keys()]
    problems += [f"not in the reference: {key}" for key in ours.keys() - theirs.keys()]
    print("| set | objects | Nexus | original | largest difference of an object |")
    print("|---|---|---|---|---|")
    for name in sorted({key[0] for key in theirs}):
        keys = [key for key in theirs if key[0] == name and key in ours]
        if not keys:
            continue
        mine, other = (np.array([table[key] for key in keys]) for table in (ours, theirs))
        worst = np.abs(mine - other).max()
        print(f"| {name} | {len(keys)} | {mine.mean():.4f} | {other.mean():.4f} | {worst:.4f} |")
        if abs(mine.mean() - other.mean()) > TOLERANCE:
            problems.append(f"{name}: mean {mine.mean():.4f} is not that of the reference")
    return problems


if __name__ == "__main__":
    main()
