"""Which rows fall to a process."""

from __future__ import annotations

from nexus.train.plan import Plan


def test_rows_are_numbered_through_the_run() -> None:
    """Steps, calls and processes follow each other without a gap, and no row comes twice."""
    plan = Plan(seed=0, rows=3, accumulation=2)
    numbers = [
        number
        for step in range(4)
        for call in range(2)
        for process in range(2)
        for number in plan.numbers(step, process, 2)[call]
    ]

    assert numbers == list(range(48))


def test_two_processes_have_the_rows_of_a_doubled_batch() -> None:
    """What two processes have together is what one with twice the rows has, call by call."""
    double, half = Plan(0, 4, 2), Plan(0, 2, 2)
    pairs = zip(half.numbers(5, 0, 2), half.numbers(5, 1, 2), strict=True)

    assert [[*one, *other] for one, other in pairs] == [list(rows) for rows in double.numbers(5)]


def test_chance_follows_from_seed_and_key() -> None:
    """Equal keys draw alike, another key or seed does not."""
    draws = [Plan(seed, 1).generator(*key).random() for seed, key in ((1, (2, 3)), (1, (2, 4)))]

    assert Plan(1, 9).generator(2, 3).random() == draws[0] != draws[1]
    assert Plan(2, 1).generator(2, 3).random() != draws[0]
