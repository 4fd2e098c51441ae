"""Every fault by name. Each fault registers itself in its own file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from maillab.errors import UnknownName

Kind = TypeVar("Kind", bound=type)


@dataclass(frozen=True)
class Registered:
    """A fault's class, the scenario that proves it, and an example in a topology.

    ``proof`` is a test of ``scenarios/faults`` as FILE::TEST; it is "" for Noop. ``host`` is
    the role on which the example acts. ``example`` has its settings as on the command line,
    where the name of a role stands for its address.
    """

    kind: type
    proof: str
    host: str
    example: Mapping[str, str] = field(default_factory=dict)
    topology: str = "wan"


REGISTRY: dict[str, type] = {}
ENTRIES: dict[str, Registered] = {}
# Names from before 0.1.0, kept for one release.
FORMER_NAMES: dict[str, type] = {}


def fault(
    *,
    proof: str,
    host: str,
    example: Mapping[str, str] | None = None,
    topology: str = "wan",
    formerly: str = "",
) -> Callable[[Kind], Kind]:
    """Register the decorated class as a fault; see `Registered` for the arguments.

    ``formerly`` is an older name of the fault. The command line still accepts it.
    """

    def register(kind: Kind) -> Kind:
        REGISTRY[kind.__name__] = kind
        ENTRIES[kind.__name__] = Registered(kind, proof, host, example or {}, topology)
        if formerly:
            FORMER_NAMES[formerly] = kind
        return kind

    return register


def find(name: str) -> type:
    """Return the fault with that name or older name; raise UnknownName."""
    kind = REGISTRY.get(name) or FORMER_NAMES.get(name)
    if kind is None:
        raise UnknownName.among("fault", name, sorted(REGISTRY))
    return kind
