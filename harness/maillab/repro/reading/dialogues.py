"""SMTP dialogues by telnet, swaks or a mail program, and replies quoted in a sentence. Pure."""

from __future__ import annotations

import re

from maillab.repro.reading.notices import Told, ToldFate

_MARK = r"[ \t]*(?:[<>~*=-]{1,3}[ \t]+|[CS]:[ \t]*)?"
_COMMAND = re.compile(rf"{_MARK}(MAIL FROM|RCPT TO):[ \t]*<([^<>]*)>.*", re.IGNORECASE)
_OTHER = re.compile(rf"{_MARK}(?:EHLO|HELO|STARTTLS|AUTH|DATA|QUIT|RSET)\b.*", re.IGNORECASE)
_REPLY = re.compile(rf"{_MARK}([2-5]\d\d)([ -])(?:(\d\.\d{{1,3}}\.\d{{1,3}}) )?(.*)")
# A refused recipient names its address; "Sender address rejected" names another.
_QUOTED = re.compile(
    r"\b([45]\d\d)[ -](\d\.\d{1,3}\.\d{1,3}) (<([^<>\s]{1,320}@[^<>\s]{1,255})>: "
    r"(?!Sender address|Helo command|Client host)[^\"'`]{1,300})"
)


class Dialogue:
    """A reader of the commands and replies of one session."""

    def __init__(self) -> None:
        self.told = Told("SMTP dialogue")
        self._pending = ""
        self._recipient = ""
        self._is_open = False

    def add(self, line: str) -> bool:
        """Take a line; return False if it does not belong to a dialogue."""
        if found := _COMMAND.fullmatch(line):
            self._pending, self._is_open = found[1].upper(), True
            if self._pending == "MAIL FROM":
                self.told.sender = found[2]
            else:
                self._recipient = found[2]
            return True
        if _OTHER.fullmatch(line):
            self._pending, self._is_open = "", self._is_open or line.lstrip()[:1] in "<>~*=-CS"
            return self._is_open
        if not self._is_open or not (found := _REPLY.fullmatch(line)):
            self._is_open = False
            return False
        code, more, dsn, text = found.groups()
        if self._pending == "RCPT TO" and self._recipient:
            self._answer(int(code), dsn or "", text)
        if more == " ":
            self._pending = ""
        return True

    def _answer(self, code: int, dsn: str, text: str) -> None:
        status = "rejected" if code >= 400 else "queued"  # noqa: PLR2004  # RFC 5321 section 4.2.1
        self.told.fates = [fate for fate in self.told.fates if fate.recipient != self._recipient]
        if status == "rejected":
            self.told.fates.append(
                ToldFate(self._recipient, "", status, dsn, "", text.strip(), code)
            )


def quoted(line: str) -> Told | None:
    """Return what a reply in a sentence tells: "554 5.7.1 <a@b>: Relay access denied"."""
    found = _QUOTED.search(line)
    if not found:
        return None
    fate = ToldFate(found[4], "", "rejected", found[2], "", found[3].strip(), int(found[1]))
    return Told("reply in a sentence", fates=[fate])
