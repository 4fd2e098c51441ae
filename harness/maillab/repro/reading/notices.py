"""Delivery notices and queue listings: what became of a message, without a log. Pure."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field

_FIELD = re.compile(
    r"(Reporting-MTA|X-Postfix-Queue-ID|X-Postfix-Sender|Final-Recipient|Original-Recipient|Action"
    r"|Status|Remote-MTA|Diagnostic-Code|Arrival-Date):[ \t]*(?:(dns|rfc822|utf-8|smtp|lmtp"
    r"|x-\w+|X-\w+);[ \t]*)?(.*)",
    re.IGNORECASE,
)
_HOST = re.compile(r"This is the mail system at host ([\w.-]{1,255}[\w-])\.?")
_FAILED = re.compile(r"<([^<>\s]{1,320})>(?: \(expanded from <([^<>\s]{1,320})>\))?:[ \t]*(.*)")
# How the texts of Postfix's own notices begin.
_REASON = re.compile(
    r"(?:host|connect to|lost connection|mail for|unknown user|Host or domain|Name service|delivery"
    r"|conversation|temporary failure|mail forwarding|cannot|can't|message size|bad address|user)\b"
)
_STATUS_OF_ACTION = {"failed": "bounced", "delayed": "deferred", "delivered": "sent",
                     "relayed": "sent", "expanded": "sent"}  # fmt: skip
# mailq(1): id, its mark, size, arrival, sender.
_QUEUED = re.compile(
    r"\s*([0-9A-F]{6,20}|[0-9A-Za-z]{10,25})([*!#]?)\s+(\d{1,12})\s+(?:[A-Z][a-z]{2}\s+)?"
    r"[A-Z][a-z]{2}\s+\d{1,2}\s+\d\d:\d\d(?::\d\d)?\s+(\S+)\s*"
)
_LISTING = re.compile(r"\s*-+ *Queue ID *-+.*|-- \d+ [KM]?bytes in \d+ Requests?\.?", re.IGNORECASE)
_ADDRESS = re.compile(r"\s*([^\s()<>,;]{1,64}@[\w.\[\]:-]{1,255}|[\w.+-]{1,64})\s*")
_CODE = re.compile(r"\b[245]\d\d[ -](\d\.\d{1,3}\.\d{1,3})\b")
_DSN = re.compile(r"(?<![\d.])([245]\.\d{1,3}\.\d{1,3})(?![\d.])")
_RELAY = re.compile(r"(?:host|with|server) ([\w.-]{1,255}\[[^\]\s]{1,64}\](?::\d{1,5})?)")
# The enhanced status code that Postfix gives its own texts (smtp_connect.c, smtp_chat.c).
_IMPLIED = (
    (re.compile(r"loops back to myself|mail forwarding loop|too many hops"), "5.4.6"),
    (re.compile(r"Name service error .*(?:try again|timed out|SERVFAIL)"), "4.4.3"),
    (re.compile(r"Host or domain name not found"), "5.4.4"),
    (re.compile(r"lost connection with|conversation with .* timed out"), "4.4.2"),
    (re.compile(r"connect to |refused to talk to me|timed out"), "4.4.1"),
    (re.compile(r"mail transport unavailable|unknown mail transport error"), "4.3.0"),
    (re.compile(r"mail system configuration error"), "4.3.5"),
    (re.compile(r"unknown user|User unknown"), "5.1.1"),
)


# The lines of a reason that a terminal or a mail program broke.
_REASON_LINES_MAX = 20
_TEXT_MAX = 5000


@dataclass(frozen=True)
class ToldFate:
    """One recipient's status; ``dsn`` is "" and ``code``, of an SMTP reply, is 0 if unknown."""

    recipient: str
    original: str
    status: str
    dsn: str
    relay: str
    reply: str
    code: int = 0


@dataclass
class Told:
    """A message's state as a notice or a queue listing tells it.

    ``sender`` is None and ``size_bytes`` is 0 if unknown.
    """

    form: str
    queue_id: str = ""
    host: str = ""
    sender: str | None = None
    size_bytes: int = 0
    fates: list[ToldFate] = field(default_factory=list)


def implied_dsn(reply: str) -> str:
    """Return the enhanced status code in a reply, else the one that Postfix gives it, or ""."""
    if found := _CODE.search(reply):
        return found[1]
    return next((dsn for pattern, dsn in _IMPLIED if pattern.search(reply)), "")


def relay_of(reply: str) -> str:
    """Return the server that a reply names, or ""."""
    if reply.startswith(("connect to ", "mail for ")):
        return ""
    found = _RELAY.search(reply)
    return found[1] if found else ""


class Notice:
    """A reader of delivery notices (RFC 3464, and the text that bounce(8) writes above it)."""

    def __init__(self) -> None:
        self.told = Told("delivery notice")
        self._said: dict[str, str] = {}
        self._by_text: list[list[str]] = []
        self._by_field: list[dict[str, str]] = []
        self._open = ""
        self._status = "bounced"

    def add(self, line: str) -> bool:
        """Take a line; return False if it does not belong to a notice."""
        bare = line.strip()
        if self._open and line[:1].isspace() and not _FIELD.fullmatch(bare):
            self._continue(bare)
            return True
        self._open = ""
        if found := _FIELD.fullmatch(bare):
            self._take(found[1].lower(), (found[2] or "").lower(), found[3].strip())
            return True
        if found := _HOST.search(bare):
            self.told.host = found[1]
            return True
        if "THIS IS A WARNING ONLY" in bare:
            self._status = "deferred"
            return True
        found = _FAILED.fullmatch(bare)
        if found and (self.told.host or _REASON.match(found[3])):
            self._by_text.append([found[1], found[2] or "", found[3]])
            self._open = "text"
            return True
        return False

    def end(self) -> None:
        """End the open reason, as a blank line does."""
        self._open = ""

    def _continue(self, text: str) -> None:
        if self._open == "text":
            self._by_text[-1][2] = f"{self._by_text[-1][2]} {text}"[:_TEXT_MAX]
        elif self._by_field:
            said = self._by_field[-1]["diagnostic-code"]
            self._by_field[-1]["diagnostic-code"] = f"{said} {text}"[:_TEXT_MAX]

    def _take(self, name: str, kind: str, value: str) -> None:
        if name == "reporting-mta":
            self.told.host = value
        elif name == "x-postfix-queue-id":
            self.told.queue_id = value
        elif name == "x-postfix-sender":
            self.told.sender = value
        elif name == "final-recipient" or not self._by_field:
            self._by_field.append({name: value})
        else:
            self._by_field[-1][name] = value
        if name == "diagnostic-code" and self._by_field:
            self._by_field[-1]["type"] = kind
            self._open = "field"

    def finish(self) -> Told | None:
        """Return what the notice tells, or None if it names no recipient."""
        told = self.told
        texts = {recipient: text for recipient, _, text in self._by_text}
        for block in self._by_field:
            recipient = block.get("final-recipient", "")
            if not recipient:
                continue
            reply = texts.get(recipient) or block.get("diagnostic-code", "")
            relay = block.get("remote-mta", "") or relay_of(reply)
            status = _STATUS_OF_ACTION.get(block.get("action", "failed").lower(), "bounced")
            dsn = block.get("status", "") or implied_dsn(reply)
            original = block.get("original-recipient", "")
            told.fates.append(ToldFate(recipient, original, status, dsn, relay, reply))
        if not told.fates:
            told.fates = [
                ToldFate(
                    recipient, original, self._status, implied_dsn(reply), relay_of(reply), reply
                )
                for recipient, original, reply in self._by_text
            ]
        return told if told.fates else None


class Listing:
    """A reader of the queue as mailq(1), postqueue -p and postqueue -j list it."""

    def __init__(self) -> None:
        self.messages: list[Told] = []
        self._reason = ""
        # The lines that a reason may still have, until its parentheses close.
        self._more = 0
        self._is_open = False

    def add(self, line: str) -> bool:
        """Take a line; return False if it does not belong to a listing."""
        if line.lstrip().startswith("{") and '"queue_id"' in line:
            return self._take_json(line)
        if found := _QUEUED.fullmatch(line):
            sender = "" if found[4] == "MAILER-DAEMON" else found[4].strip("<>")
            self.messages.append(Told("queue listing", found[1], "", sender, int(found[3])))
            self.end()
            self._is_open = True
            return True
        return _LISTING.fullmatch(line) is not None or (self._is_open and self._go_on(line))

    def _go_on(self, line: str) -> bool:
        bare = line.strip()
        if bare.startswith("(") or self._more:
            self._reason = f"{self._reason} {bare}" if self._more else bare
            self._more = self._more - 1 if self._more else _REASON_LINES_MAX
            if bare.endswith(")") and self._reason.count("(") <= self._reason.count(")"):
                self._more = 0
            return True
        if found := _ADDRESS.fullmatch(line):
            self.messages[-1].fates.append(_queued(found[1], self._reason[1:-1]))
            return True
        self.end()
        return False

    def end(self) -> None:
        """End the message, as a blank line does."""
        self._is_open, self._more, self._reason = False, 0, ""

    def _take_json(self, line: str) -> bool:
        try:
            entry = json.loads(line.strip().rstrip(","))
            sender, size_bytes = str(entry.get("sender", "")), int(entry.get("message_size", 0))
            told = Told("queue listing", str(entry["queue_id"]), "", sender, size_bytes)
            told.fates = [
                _queued(str(recipient["address"]), str(recipient.get("delay_reason", "")))
                for recipient in entry.get("recipients", [])
            ]
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return False
        self.messages.append(told)
        return True


def _queued(recipient: str, reason: str) -> ToldFate:
    """Return a queued recipient's fate; what waits in the queue has no final status."""
    dsn = re.sub(r"^5", "4", implied_dsn(reason))
    status = "deferred" if reason else "queued"
    return ToldFate(recipient, "", status, dsn, relay_of(reason), reason)
