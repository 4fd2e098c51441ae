"""The fault that does nothing: the form of a fault, and what every test must notice."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from maillab.host import Host
from maillab.record import Witness


@dataclass(frozen=True)
class Noop:
    """Leaves the host alone; its witness never counts, so that a test with it is void."""

    @contextlib.contextmanager
    def on(self, host: Host) -> Iterator[Witness]:
        """Apply nothing, lift nothing."""
        yield Witness("Noop", host.name, "nobody")
