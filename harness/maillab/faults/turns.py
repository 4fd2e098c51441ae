"""Turns: the occasions, by number, on which a fault acts."""

from __future__ import annotations

from maillab.errors import BadInput

TURNS_MAX = 100_000


def check_turns(fault: object, *, first: int, every: int, after: int) -> None:
    """Raise BadInput unless ``first``, ``every`` and ``after`` can select occasions.

    Of the occasions that match a fault, those after the ``after``th count. The fault acts on
    every ``every``th of these, and stops after the ``first`` it acted on (0: no limit). The
    same rule applies to every fault that takes turns.
    """
    for name, value, least in (("first", first, 0), ("every", every, 1), ("after", after, 0)):
        if not least <= value <= TURNS_MAX:
            raise BadInput(f"{fault!r}: {name} must be {least} to {TURNS_MAX}, not {value}")
