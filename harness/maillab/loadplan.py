"""What is asked of a load: its sessions, its messages, and how they are shared out. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from maillab import message
from maillab.errors import BadInput

# Places in a template, for what differs from message to message.
TOKEN = "@TOKEN@"  # noqa: S105  # no password
TO = "@TO@"
_SESSIONS_MAX = 20_000


@dataclass(frozen=True)
class Load:
    """What is asked of a load.

    ``sessions`` are busy until all ``messages`` are sent, each with so many a
    session; with ``held`` all are connected before any sends. With ``rate_per_s``
    (open loop) messages become due at that rate whether a session is free or not,
    and latency counts from then. ``sizes_bytes`` and ``recipients_each`` are numbers,
    or distributions: weights by number. A session that breaks, or is put off by 4xx,
    is tried ``retries`` times anew; each attempt has ``timeout_s``, connecting
    included. ``auth`` is a user and a password (AUTH PLAIN).
    """

    sessions: int = 100
    messages: int = 1000
    messages_per_session: int = 1
    held: bool = False
    rate_per_s: float = 0.0
    sizes_bytes: int | Mapping[int, float] = 1000
    recipients: Sequence[str] = ()
    recipients_each: int | Mapping[int, float] = 1
    sender: str = ""
    port: int = 25
    tls: bool = False
    auth: tuple[str, str] | None = None
    retries: int = 0
    workers: int = 1
    timeout_s: float = 300.0
    seed: int = 1

    def __post_init__(self) -> None:
        least_one = ("sessions", "messages", "messages_per_session", "workers")
        for name in least_one:
            if getattr(self, name) < 1:
                raise BadInput(f"load: {name}: at least 1, not {getattr(self, name)}")
        if self.sessions > _SESSIONS_MAX:
            raise BadInput(f"load: sessions: at most {_SESSIONS_MAX} from one address to one port")
        if self.rate_per_s < 0 or self.retries < 0 or self.timeout_s <= 0:
            raise BadInput("load: rate_per_s and retries are not below 0, timeout_s is above it")
        for name in ("sizes_bytes", "recipients_each"):
            given = weights(getattr(self, name))
            if not given or min(given) < 1 or min(given.values()) < 0:
                raise BadInput(f"load: {name}: a number above 0, or weights by such numbers")
        if self.held and self.messages < self.sessions:
            raise BadInput(
                f"load: {self.sessions} sessions held open have only {self.messages} messages; "
                "give each at least one"
            )

    def __str__(self) -> str:
        loop = f"open loop, {self.rate_per_s:g} a second" if self.rate_per_s else "closed loop"
        how = "all held open first, " if self.held else ""
        return (
            f"{self.messages} messages in {self.sessions} sessions, {how}"
            f"{self.messages_per_session} a session, {loop}, seed {self.seed}"
        )


def weights(given: int | Mapping[int, float]) -> dict[int, float]:
    """A number, or a distribution, as weights by number."""
    return {given: 1.0} if isinstance(given, int) else dict(given)


def part_of(whole: int, part: int, parts: int) -> int:
    """One of ``parts`` shares, as equal as can be."""
    return whole // parts + (part < whole % parts)


def templates(load: Load, server: str) -> tuple[list[str], list[float]]:
    """A message for each size, with places for what differs; lines end in CRLF."""
    sizes = weights(load.sizes_bytes)
    texts = [
        message.compose(
            sender=load.sender or "load@maillab.test",
            recipients=[TO],
            subject=f"load on {server}",
            body=f"This is message {TOKEN}.",
            size_bytes=size,
            headers={"Message-ID": f"<{TOKEN}{message.GIVEN}"},
        ).raw.decode("latin-1")
        for size in sizes
    ]
    return [text.replace("\n", "\r\n") for text in texts], list(sizes.values())
