"""An SMTP server that misbehaves at one stage of the session."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Literal, get_args

from maillab.errors import BadInput
from maillab.host import Host
from maillab.record import Witness

Stage = Literal["connect", "greeting", "EHLO", "MAIL", "RCPT", "DATA", "end of data", "QUIT"]
_STAGES = get_args(Stage)
_ENDS = ("silence", "close", "reset")
_KNOWS_RECIPIENTS = ("RCPT", "DATA", "end of data")
_REPLY = re.compile(r"(?:([2-5]\d\d)-[^\r\n]*\n(?=\1))*[2-5]\d\d(?: [^\r\n]*)?")


@dataclass(frozen=True)
class SmtpStage:
    """At one ``stage`` of an SMTP session the host's server lies, is late or goes away.

    It waits ``delay_s``, says ``reply`` instead of the real one, byte by byte with
    ``byte_interval_s`` between two, and ``then`` is silent until the client goes,
    closes, or resets (RST). With ``then`` alone it says nothing; with neither,
    the real reply comes, late. A reply of 421 closes (RFC 5321 section 3.8). The
    stage EHLO is HELO, too.

    At "end of data" the message is thrown away by a lie, unless it is ``stored``:
    then the real server took it before the client hears what it hears, and a
    client that tries again makes a duplicate, for which ``lab.expects`` is.

    Which occasions: those of one ``client`` (its address) or ``recipient``, or
    greetings while more than ``sessions_max`` sessions are open; of these those
    behind the ``after``th, each ``every``th, and the ``first`` so many (0: all).

    At every other stage the real server behind answers, and its log shows the
    client's own address; but it does not offer STARTTLS and CHUNKING. The witness
    counts how often clients met the fault.
    """

    stage: Stage
    reply: str = ""
    then: Literal["", "silence", "close", "reset"] = ""
    delay_s: float = 0.0
    byte_interval_s: float = 0.0
    stored: bool = False
    first: int = 0
    every: int = 1
    after: int = 0
    recipient: str = ""
    client: str = ""
    sessions_max: int | None = None

    def __post_init__(self) -> None:
        for wrong, advice in self._impossible():
            if wrong:
                raise BadInput(f"{self!r}: {advice}")

    def _impossible(self) -> Iterator[tuple[bool, str]]:
        yield self.stage not in _STAGES, f"SMTP has no such stage; it has: {', '.join(_STAGES)}"
        yield (
            bool(self.reply and not _REPLY.fullmatch(self.reply)),
            "not an SMTP reply; write a code and a text, as '554 no mail', lines with \\n between",
        )
        yield self.then not in ("", *_ENDS), f"'then' is one of: {', '.join(_ENDS)}"
        yield (
            min(self.delay_s, self.byte_interval_s, self.first, self.after) < 0 or self.every < 1,
            "times and counts are not below 0, and 'every' is at least 1",
        )
        yield (
            not (self.reply or self.then or self.delay_s or self.byte_interval_s),
            "does nothing; give it a reply, a 'then', delay_s or byte_interval_s",
        )
        yield (
            self.stage == "connect" and bool(self.reply or self.byte_interval_s),
            "nothing is said at connect; the stage for that is 'greeting'",
        )
        yield (
            bool(self.byte_interval_s and self.then and not self.reply),
            "without a reply there are no bytes to say slowly",
        )
        yield (
            self.stored and (self.stage != "end of data" or not (self.reply or self.then)),
            "a message is stored, and its sender not told, at 'end of data' with a reply or 'then'",
        )
        yield (
            bool(self.recipient) and self.stage not in _KNOWS_RECIPIENTS,
            f"recipients are known at {', '.join(_KNOWS_RECIPIENTS)} only",
        )
        yield (
            self.sessions_max is not None
            and (self.sessions_max < 0 or self.stage not in ("connect", "greeting")),
            "sessions_max is not below 0, and is for connect and greeting",
        )

    @contextlib.contextmanager
    def on(self, host: Host) -> Iterator[Witness]:
        """Stand in front of the host's port 25."""
        witness = Witness(repr(self), host.name, f"clients that met it at {self.stage}")
        settings = asdict(self)
        sessions_max = settings.pop("sessions_max")
        settings["above_sessions"] = -1 if sessions_max is None else sessions_max
        fault = host.agent.call("smtp_fault_start", **settings)["fault"]
        try:
            yield witness
        finally:
            witness.count = host.agent.call("smtp_fault_stop", fault=fault)["acted"]
