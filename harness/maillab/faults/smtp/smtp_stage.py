"""An SMTP server that misbehaves at one stage of the session."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Literal, get_args

from maillab.errors import BadInput
from maillab.faults import counters
from maillab.faults.process.postfix import mail_host
from maillab.faults.registry import fault
from maillab.faults.smtp import wire
from maillab.faults.turns import check_turns
from maillab.hosts.host import Host
from maillab.scenario.state import Witness

Stage = Literal[
    "connect", "greeting", "EHLO", "STARTTLS", "AUTH", "MAIL", "RCPT", "DATA", "end of data", "QUIT"
]
_STAGES = get_args(Stage)
_ENDS = ("silence", "close", "reset")
_TLS_PORTS = (587, 465)
# Where certify.sh (images/postfix) writes a host's key and certificate.
_CERTIFICATE = "/etc/ssl/maillab/{}.pem"
_KNOWS_RECIPIENTS = ("RCPT", "DATA", "end of data")
_REPLY = re.compile(r"(?:([2-5]\d\d)-[^\r\n]*\n(?=\1))*[2-5]\d\d(?: [^\r\n]*)?")


@fault(
    proof="test_smtp_server.py::test_symptom_the_server_goes_away[MAIL-close]",
    host="receiver",
    example={"stage": "RCPT", "reply": "450 4.7.1 not today"},
)
@dataclass(frozen=True)
class SmtpStage:
    """At one ``stage`` of an SMTP session the host's server gives a wrong or late reply, or none.

    It waits ``delay_s``, sends ``reply`` instead of the real one, with ``byte_interval_s``
    between any two bytes, and ``then`` is silent until the client leaves, closes, or resets
    (RST). With ``then`` alone it sends no reply; with neither, the real reply, late. A reply
    of 421 closes the connection (RFC 5321 section 3.8). The stage EHLO includes HELO.

    At "end of data" the message is thrown away by a false reply, unless it is ``stored``:
    then the real server took it before the client gets its reply, and a client that tries
    again makes a duplicate. Declare that with ``lab.expects``.

    Restrict it to one ``client`` (its address) or ``recipient``, or to greetings while more
    than ``sessions_max`` sessions are open. Of these, restrict it to the ``first`` N (0: no
    limit), every Nth (``every``), or those after the ``after`` first ones.

    ``port`` 587 or 465 is a provider's submission service. The fault has the host's own key and
    certificate, speaks TLS 1.3 with clients after STARTTLS or from the first byte, and knows the
    stages STARTTLS and AUTH, too. After STARTTLS a session has a second EHLO. What a client sends
    for AUTH does not reach the real server unless the reply is merely late.

    At every other stage the real server answers, and its log shows the client's own address;
    but CHUNKING is not offered, nor STARTTLS at port 25. In TLS the kernel knows a reply by the
    size of its record. The witness counts how often clients met the
    fault, at most as often as the kernel saw such a reply, end, delay or silence on the wire.
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
    port: int = 25

    def __post_init__(self) -> None:
        check_turns(self, first=self.first, every=self.every, after=self.after)
        for wrong, advice in self._impossible():
            if wrong:
                raise BadInput(f"{self!r}: {advice}")

    def _impossible(self) -> Iterator[tuple[bool, str]]:
        yield (
            self.stage not in _STAGES,
            f"unknown stage {self.stage!r} (choose from {', '.join(_STAGES)})",
        )
        yield (
            bool(self.reply and not _REPLY.fullmatch(self.reply)),
            "reply must be a code and a text, such as '554 no mail', with \\n between lines",
        )
        yield self.then not in ("", *_ENDS), f"unknown 'then' (choose from {', '.join(_ENDS)})"
        yield (
            min(self.delay_s, self.byte_interval_s) < 0,
            "delay_s and byte_interval_s must be >= 0",
        )
        yield (
            not (self.reply or self.then or self.delay_s or self.byte_interval_s),
            "does nothing; give it a reply, a 'then', delay_s or byte_interval_s",
        )
        yield (
            self.stage == "connect" and bool(self.reply or self.byte_interval_s),
            "there is no reply at 'connect'; choose the stage 'greeting'",
        )
        yield (
            bool(self.byte_interval_s and self.then and not self.reply),
            "byte_interval_s needs a reply to send slowly",
        )
        yield (
            self.stored and (self.stage != "end of data" or not (self.reply or self.then)),
            "stored needs the stage 'end of data', and a reply or 'then'",
        )
        yield (
            self.port not in (25, *_TLS_PORTS),
            "port must be 25, 587 (STARTTLS) or 465 (TLS from the first byte)",
        )
        yield (
            self.stage in ("STARTTLS", "AUTH") and self.port not in _TLS_PORTS,
            f"the stage {self.stage} needs port=587 or port=465",
        )
        yield (
            self.stage == "STARTTLS" and self.port == _TLS_PORTS[1],
            "there is no STARTTLS at port 465; choose port=587",
        )
        yield (
            self.stage == "STARTTLS" and not (self.reply or self.then),
            "the stage STARTTLS needs a reply or a 'then'",
        )
        yield (
            self.stage in ("STARTTLS", "AUTH") and self.reply[:1] in ("2", "3"),
            f"reply must refuse at the stage {self.stage}, with 4 or 5 as its first digit",
        )
        yield (
            bool(self.byte_interval_s) and self.port in _TLS_PORTS,
            "byte_interval_s needs port=25: in TLS no byte comes alone",
        )
        yield (
            bool(self.recipient) and self.stage not in _KNOWS_RECIPIENTS,
            f"recipient needs one of the stages {', '.join(_KNOWS_RECIPIENTS)}",
        )
        yield (
            self.sessions_max is not None
            and (self.sessions_max < 0 or self.stage not in ("connect", "greeting")),
            "sessions_max must be >= 0, and needs the stage connect or greeting",
        )

    @contextlib.contextmanager
    def on(self, host: Host) -> Iterator[Witness]:
        """Intercept the host's port."""
        settings = asdict(self)
        if self.port in _TLS_PORTS:
            settings["pem"] = self._certificate(host)
        witness = Witness(repr(self), host.name, f"clients that met it at {self.stage}")
        sessions_max = settings.pop("sessions_max")
        settings["above_sessions"] = -1 if sessions_max is None else sessions_max
        replies = [wire.reply_begins(self.reply)] if self.reply else []
        if self.reply and self.port in _TLS_PORTS:
            replies.append(wire.sealed(self.reply))
        delay_s = self.delay_s or self.byte_interval_s
        ends = self.then == "close"
        rules = wire.rules(replies=replies, delay_s=delay_s, ends=ends, port=self.port)
        with counters.watching(host, rules) as seen:
            fault = host.agent.call("smtp_fault_start", **settings)["fault"]
            try:
                yield witness
            finally:
                # Read the counters while the server still waits, so that a silence is visible.
                kernel = seen()
                acted = host.agent.call("smtp_fault_stop", fault=fault)["acted"]
                counters.agree(witness, acted, sum(kernel[what] for what in self._evidence()))

    def _certificate(self, host: Host) -> str:
        """Return the host's key and certificate; raise BadInput if it has none."""
        path = _CERTIFICATE.format(host.fqdn)
        pem = mail_host(host, self).channel.call("read", path=path)["content"]
        if not pem:
            raise BadInput(
                f"{self!r} on {host.name}: it has no certificate {path}; choose a host that takes "
                "submission, such as provider in the topology smarthost"
            )
        return str(pem)

    def _evidence(self) -> set[str]:
        """Return the names of the kernel's counters that prove the fault."""
        ends = {"silence": wire.UNANSWERED, "close": wire.HUNG_UP, "reset": wire.RESET}
        found = {ends[self.then]} if self.then else set()
        if self.reply and not self.byte_interval_s:
            found.add(wire.REPLY)
        if self.byte_interval_s:
            found.add(wire.SLOW)
        if self.delay_s:
            found.add(wire.LATE)
        if self.delay_s or self.byte_interval_s or self.then == "silence":
            # The client leaves before the reply, or still waits.
            found |= {wire.UNANSWERED, wire.WAITING, wire.SILENT}
        return found
