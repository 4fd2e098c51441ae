"""A middlebox that shows one ESMTP extension other than the server offers it."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass

from maillab.errors import BadInput
from maillab.faults._middlebox import box
from maillab.host import Host
from maillab.record import Witness


@dataclass(frozen=True)
class ExtensionRewriter:
    """In replies to EHLO, ``extension`` such as "SIZE" reads ``becomes``, or is left out.

    On a host it stands before its port 25, on a router in the way of all SMTP
    through it.
    """

    extension: str
    becomes: str = ""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9-]*", self.extension):
            raise BadInput(
                f"{self!r}: an extension is named by its keyword (RFC 5321 section 2.2.2), as SIZE"
            )
        if not re.fullmatch(r"[ -~]*", self.becomes):
            raise BadInput(f"{self!r}: 'becomes' is one line, as 'SIZE 1000', or empty")

    @contextlib.contextmanager
    def on(self, host: Host) -> Iterator[Witness]:
        """Put it before the host, or on the path through it."""
        with box(host, self, "ExtensionRewriter", asdict(self)) as witness:
            yield witness
