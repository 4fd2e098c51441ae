"""What a log line says that the server at the other end did. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

_SAID = re.compile(
    r"host \S+ (?:said: (?P<said>[45]\d\d.*?) \(in reply to (?P<to>.+?)(?: command)?\)$"
    r"|refused to talk to me: (?P<greeting>[45]\d\d.*))"
)
_STAGES = {"MAIL FROM": "MAIL", "RCPT TO": "RCPT", "DATA": "DATA", "end of DATA": "end of data",
           "EHLO": "EHLO", "HELO": "EHLO"}  # fmt: skip
_OF_ONE_RECIPIENT = ("RCPT", "DATA", "end of data")


@dataclass(frozen=True)
class Answer:
    """What the other server said, to be played: an SMTP stage and a reply, or how it was not there.

    ``absent`` is "refused" or "silent"; ``recipient`` the only one of whom it is said, or "".
    """

    stage: str = ""
    reply: str = ""
    absent: str = ""
    recipient: str = ""

    @property
    def of_one_recipient(self) -> bool:
        """Whether a server can say so of one recipient and not of another."""
        return self.stage in _OF_ONE_RECIPIENT

    def __str__(self) -> str:
        """What the server is made to do."""
        if self.absent:
            return {"refused": "refuses connections", "silent": "does not answer"}[self.absent]
        whom = f" of {self.recipient}" if self.recipient else ""
        return f"says {self.reply!r} at {self.stage}{whom}"


def answered(reply: str) -> Answer | None:
    """The answer in a delivery's text; None when it tells nothing out of the ordinary."""
    if found := _SAID.search(reply):
        if found["greeting"]:
            return Answer("greeting", found["greeting"])
        stage = _STAGES.get(found["to"], "")
        return Answer(stage, found["said"]) if stage else None
    if "Connection refused" in reply:
        return Answer(absent="refused")
    if "Connection timed out" in reply:
        return Answer(absent="silent")
    return None
