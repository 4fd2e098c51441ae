"""The other server's answer, as a log line reports it. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

_SAID = re.compile(r"host \S+ said: ([45]\d\d.*)")
_IN_REPLY = " (in reply to "
_GREETED = re.compile(r"host \S+ refused to talk to me: ([45]\d\d.*)")
_STAGES = {"MAIL FROM": "MAIL", "RCPT TO": "RCPT", "DATA": "DATA", "end of DATA": "end of data",
           "EHLO": "EHLO", "HELO": "EHLO"}  # fmt: skip
_OF_ONE_RECIPIENT = ("RCPT", "DATA", "end of data")


@dataclass(frozen=True)
class Answer:
    """The other server's answer, to be played: a reply at an SMTP stage, or no connection.

    ``absent`` is "refused" or "silent". ``recipient`` is the only recipient with this
    answer, or "" for all.
    """

    stage: str = ""
    reply: str = ""
    absent: str = ""
    recipient: str = ""

    @property
    def of_one_recipient(self) -> bool:
        """Return True if a server can give this answer for one recipient only."""
        return self.stage in _OF_ONE_RECIPIENT

    def __str__(self) -> str:
        """Return what the server does in the lab."""
        if self.absent:
            return {"refused": "refuses connections", "silent": "does not answer"}[self.absent]
        whom = f" of {self.recipient}" if self.recipient else ""
        return f"says {self.reply!r} at {self.stage}{whom}"


def answered(reply: str) -> Answer | None:
    """Return the answer in a delivery's text, or None if it has none to play."""
    quoted, greeted = _SAID.search(reply), _GREETED.search(reply)
    text, _, command = quoted[1].partition(_IN_REPLY) if quoted else ("", "", "")
    if quoted and command.endswith(")") and not (greeted and greeted.start() < quoted.start()):
        stage = _STAGES.get(command[:-1].removesuffix(" command"), "")
        return Answer(stage, text) if stage else None
    if greeted:
        return Answer("greeting", greeted[1])
    if "Connection refused" in reply:
        return Answer(absent="refused")
    if "Connection timed out" in reply:
        return Answer(absent="silent")
    return None
