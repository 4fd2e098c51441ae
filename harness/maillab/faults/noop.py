"""The fault that does nothing: an example, and a fault that every test must notice."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from maillab.faults.registry import fault
from maillab.hosts.host import Host
from maillab.scenario.state import Witness


@fault(proof="", host="receiver")
@dataclass(frozen=True)
class Noop:
    """A fault that does nothing. Its witness never counts, so a test with it is void."""

    @contextlib.contextmanager
    def on(self, host: Host) -> Iterator[Witness]:
        """Yield a witness, and change nothing."""
        yield Witness("Noop", host.name, "actions")
