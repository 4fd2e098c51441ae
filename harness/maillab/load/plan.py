"""The plan of a load: its sessions, its messages, and their distribution. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from maillab.errors import BadInput
from maillab.mail import message

# Placeholders in a template for the parts that differ between messages.
TOKEN = "@TOKEN@"  # noqa: S105  # no password
TO = "@TO@"
_SESSIONS_MAX = 20_000
_PORT_MAX = 65_535
_SIZE_BYTES_MAX = 50_000_000
_RECIPIENTS_MAX = 100_000


@dataclass(frozen=True)
class Load:
    """The settings of a load.

    ``sessions`` run at the same time until all ``messages`` are sent, each session with
    ``messages_per_session``. With ``held``, all sessions connect before any sends. With
    ``rate_per_s`` (open loop), messages become due at that rate whether a session is
    free or not, and latency counts from then. ``sizes_bytes`` and ``recipients_each``
    are numbers, or distributions: weights by number. A session that breaks, or gets a
    4xx reply, is retried ``retries`` times, after pauses of 0.01 s that double up to 1 s.
    Each attempt has ``timeout_s``, connecting included. The wait for ``held`` sessions
    ends when no session was greeted for ``greeting_wait_s``: the greeted sessions send,
    and the report has their number. ``auth`` is a user and a password (AUTH PLAIN).
    ``workers`` is the number of processes on each sending host; with 0 all hosts together
    have one for every two cores, and each process at least 50 sessions. It does not change
    what is sent: that depends on ``seed`` alone.
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
    workers: int = 0
    timeout_s: float = 300.0
    greeting_wait_s: float = 30.0
    seed: int = 1

    def __post_init__(self) -> None:
        least_one = ("sessions", "messages", "messages_per_session")
        for name in least_one:
            if getattr(self, name) < 1:
                raise BadInput(f"load: {name} must be >= 1, not {getattr(self, name)}")
        if self.sessions > _SESSIONS_MAX:
            raise BadInput(
                f"load: sessions must be <= {_SESSIONS_MAX} (from one address to one port), "
                f"not {self.sessions}"
            )
        if not all(map(math.isfinite, (self.rate_per_s, self.timeout_s, self.greeting_wait_s))):
            raise BadInput("load: rate_per_s, timeout_s and greeting_wait_s must be finite")
        if not 1 <= self.port <= _PORT_MAX:
            raise BadInput(f"load: port must be from 1 to {_PORT_MAX}, not {self.port}")
        if min(self.rate_per_s, self.retries, self.workers) < 0 or self.timeout_s <= 0:
            raise BadInput("load: rate_per_s, retries and workers must be >= 0, and timeout_s > 0")
        if self.greeting_wait_s <= 0:
            raise BadInput(f"load: greeting_wait_s must be > 0, not {self.greeting_wait_s:g}")
        _check_weights("sizes_bytes", self.sizes_bytes, _SIZE_BYTES_MAX)
        _check_weights("recipients_each", self.recipients_each, _RECIPIENTS_MAX)
        if self.held and self.messages < self.sessions:
            raise BadInput(
                f"load: messages must be >= sessions ({self.sessions}) if sessions are held, "
                f"not {self.messages}"
            )

    def __str__(self) -> str:
        loop = f"open loop, {self.rate_per_s:g} a second" if self.rate_per_s else "closed loop"
        how = "all held open first, " if self.held else ""
        return (
            f"{self.messages} message{'s'[: self.messages != 1]} in {self.sessions} "
            f"session{'s'[: self.sessions != 1]}, {how}"
            f"{self.messages_per_session} a session, {loop}, seed {self.seed}"
        )


def _check_weights(name: str, asked: int | Mapping[int, float], most: int) -> None:
    given = weights(asked)
    if not (given and min(given) >= 1 and max(given) <= most):
        raise BadInput(
            f"load: {name} must be a number from 1 to {most}, or weights by such numbers"
        )
    if not (min(given.values()) >= 0 and 0 < sum(given.values()) < math.inf):
        raise BadInput(f"load: {name}: weights must be >= 0, and at least one > 0")


def weights(given: int | Mapping[int, float]) -> dict[int, float]:
    """Return a number, or a distribution, as weights by number."""
    return {given: 1.0} if isinstance(given, int) else dict(given)


def part_of(whole: int, part: int, parts: int) -> int:
    """Return the size of one of ``parts`` shares, which are as equal as possible."""
    return whole // parts + (part < whole % parts)


def templates(load: Load, server: str) -> tuple[list[str], list[float]]:
    """Return a message for each size, with placeholders and CRLF line ends, and the weights."""
    sizes = weights(load.sizes_bytes)
    texts = [
        message.compose(
            sender=load.sender or "load@maillab.test",
            recipients=[TO],
            subject=f"load on {server}",
            body=f"This is message {TOKEN}.",
            size_bytes=size,
            headers={"Message-ID": f"<{TOKEN}{message.GIVEN}", message.MARKER: TOKEN},
        ).raw.decode("latin-1")
        for size in sizes
    ]
    return [text.replace("\n", "\r\n") for text in texts], list(sizes.values())
