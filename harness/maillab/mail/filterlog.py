"""Parser for the log lines of filters: Milters and policy services beside Postfix. Pure.

The texts are those of OpenDKIM, OpenDMARC, rspamd, policyd-spf, postgrey and postsrsd in Debian 13,
and of authcheck (images/filters). A Milter logs Postfix's queue id; a policy service is asked
before there is one, and logs the addresses. As in ``maillog``, each pattern takes time
proportional to the line's length.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from maillab.mail.maillog import Event

_FLAGS = re.ASCII | re.DOTALL
_RESULT = r"pass|fail|softfail|neutral|none|temperror|permerror"
_RESULTS = re.compile(rf"\b(spf|dkim|dmarc)=({_RESULT})\b", re.ASCII)


@dataclass(frozen=True, slots=True)
class FilterEvent(Event):
    """A step of a filter for a message. ``sender`` and ``recipient`` are "" if not logged."""

    sender: str
    recipient: str

    @property
    def action(self) -> str:
        """The line for human readers: the filter and its words."""
        return f"{self.program}: {self.text}"


@dataclass(frozen=True, slots=True)
class Signed(FilterEvent):
    """opendkim: added a signature for a domain."""

    domain: str
    selector: str


@dataclass(frozen=True, slots=True)
class Checked(FilterEvent):
    """A filter judged where a message comes from; ``result`` is that of its last check."""

    result: str

    @property
    def results(self) -> Mapping[str, str]:
        """The results by method: spf, dkim, dmarc; the last one counts for each."""
        found = dict(_RESULTS.findall(self.text))
        return found or {_METHODS.get(self.program, self.program): self.result}


@dataclass(frozen=True, slots=True)
class Greylisted(FilterEvent):
    """postgrey: put a client off, or let it pass; ``verdict`` is "greylist" or "pass"."""

    verdict: str
    reason: str
    client_address: str


@dataclass(frozen=True, slots=True)
class AddressRewritten(FilterEvent):
    """postsrsd: replaced an envelope address, forward or back; ``sender`` is the one before."""

    address: str


_METHODS = {"opendkim": "dkim", "opendmarc": "dmarc", "policyd-spf": "spf", "rspamd": "dmarc"}
_SIGNED = re.compile(
    r"DKIM-Signature field added \(s=(?P<selector>[^,)]*+), d=(?P<domain>[^)]*+)\)", _FLAGS
)
_VERIFIED = re.compile(
    r"DKIM verification (?P<word>successful|failed)\b.*|bad signature .*", _FLAGS
)
_DMARC = re.compile(rf"\S++ (?P<result>{_RESULT})", _FLAGS)
_AUTHCHECK = re.compile(rf".*\bdmarc=(?P<result>{_RESULT})\b.*", _FLAGS)
_SPF = re.compile(
    r"(?::? *+prepend Received-SPF: (?P<word>\w++) |5\d\d 5\.7\.23 |.*\bSPF (?P<failed>fail)\b).*",
    _FLAGS,
)
_ENVELOPE = re.compile(r"(?:envelope-from=<?|;id=)(?P<sender>[^;>\s\"]*+)", _FLAGS)
_GREYLIST = re.compile(
    r"action=(?P<verdict>greylist|pass), reason=(?P<reason>[^,]*+), (?:delay=\d+, )?"
    r"client_name=[^,]*+, client_address=(?P<client_address>[^,]*+)"
    r"(?:/\d+)?, (?:sender=(?P<sender>[^,]*+), )?recipient=(?P<recipient>.*)",
    _FLAGS,
)
_SRS = re.compile(
    r"srs_(?:forward|reverse): <(?P<sender>[^>]*+)> rewritten as <(?P<address>[^>]*+)>", _FLAGS
)
_RSPAMD = re.compile(
    r"<[^>]*+>; \w++; rspamd_task_write_log: id: <[^>]*+>, qid: <(?P<qid>\w*+)>, .*", _FLAGS
)


def read(event: Event) -> Event | None:
    """Return a filter's line as an event of its kind, or None if it has none."""
    # Warnings and the other kinds of event stay what they are.
    return PROGRAMS[event.program](event) if type(event) is Event else None


def _opendkim(event: Event) -> Event | None:
    if found := _SIGNED.fullmatch(event.text):
        return _step(event, Signed, domain=found["domain"], selector=found["selector"])
    if found := _VERIFIED.fullmatch(event.text):
        return _step(event, Checked, result="pass" if found["word"] == "successful" else "fail")
    return None


def _opendmarc(event: Event) -> Event | None:
    found = _DMARC.fullmatch(event.text)
    return _step(event, Checked, result=found["result"]) if found else None


def _authcheck(event: Event) -> Event | None:
    found = _AUTHCHECK.fullmatch(event.text)
    return _step(event, Checked, result=found["result"]) if found else None


def _policyd_spf(event: Event) -> Event | None:
    found = _SPF.fullmatch(event.text)
    if not found:
        return None
    envelope = _ENVELOPE.search(event.text)
    result = (found["word"] or "fail").lower()
    return _step(event, Checked, sender=envelope["sender"] if envelope else "", result=result)


def _postgrey(event: Event) -> Event | None:
    found = _GREYLIST.fullmatch(event.text)
    return _step(event, Greylisted, **found.groupdict(default="")) if found else None


def _postsrsd(event: Event) -> Event | None:
    found = _SRS.fullmatch(event.text)
    return _step(event, AddressRewritten, **found.groupdict(default="")) if found else None


def _rspamd(event: Event) -> Event | None:
    found = _RSPAMD.fullmatch(event.text)
    results = [
        word
        for word, symbol in (("pass", "DMARC_POLICY_ALLOW"), ("fail", "DMARC_POLICY_"))
        if symbol in event.text
    ]
    if not found:
        return None
    return _step(event, Checked, found["qid"] or None, result=next(iter(results), "none"))


PROGRAMS: dict[str, Callable[[Event], Event | None]] = {
    "authcheck": _authcheck,
    "opendkim": _opendkim,
    "opendmarc": _opendmarc,
    "policyd-spf": _policyd_spf,
    "postgrey": _postgrey,
    "postsrsd": _postsrsd,
    "rspamd": _rspamd,
}


def _step(
    event: Event,
    kind: Callable[..., Event],
    queue_id: str | None = None,
    *,
    sender: str = "",
    recipient: str = "",
    **fields: str,
) -> Event:
    return event.becomes(kind, queue_id, sender=sender, recipient=recipient, **fields)
