"""The comparison of a reported outcome with the lab's. Pure."""

from __future__ import annotations

import re

from maillab.repro.report import Fate

THE_SAME = "the same"
DIFFERENT = "DIFFERENT"
CANNOT_TELL = "cannot tell: the reply was played"
NOT_REPORTED = "not in the report"
# Statuses that the host itself decides on.
_ENDS_HERE = ("sent", "rejected")
_IN_REPLY = re.compile(r" \(in reply to [\w ]+\)\)?$")
_SAID = re.compile(r"\bhost \S+ (?:said|refused to talk to me): ")
# Names, addresses and numbers, which differ between any two sites.
_NAMES = re.compile(r"<[^<>]*>|\[[^\[\]]*\]|\"[^\"]*\"|\S*[.@/]\w\S*|\S*\d\S*")
_WORD = re.compile(r"[a-z]{2,}")
# smtpd(8) begins its refusals with one of these.
_REFUSAL = re.compile(
    r"Relay access denied|(?:Sender|Recipient) address rejected|Client host rejected"
    r"|Helo command rejected|(?:Data|End-of-data|Etrn) command rejected|Message size exceeds"
    r"|Temporary lookup failure|Service unavailable|Domain not found"
)
# The share of words that two texts of one kind have in common, at least.
_ALIKE_MIN = 0.6


def verdict(reported: Fate | None, here: Fate | None, *, played: bool) -> str:
    """Return what the lab shows of one recipient.

    The same: the status, the kind of text, and the code; of one text, Postfix's releases
    give codes of one class. A reply that the lab only ``played`` proves nothing about the
    server that gave it.
    """
    if reported is None:
        return NOT_REPORTED
    if here is None or why_different(reported, here):
        return DIFFERENT
    return CANNOT_TELL if played and reported.status not in _ENDS_HERE else THE_SAME


def why_different(reported: Fate, here: Fate) -> str:
    """Return in which respect two outcomes differ, or ""."""
    # Another server's words are its own, and the lab's server has others.
    quoted = _SAID.search(reported.reply) is not None
    is_sent = reported.status == "sent"
    same_text = quoted == (_SAID.search(here.reply) is not None) and (
        quoted or _are_alike(reported.reply, here.reply)
    )
    loops = "loops back to myself" in reported.reply
    of_one_class = not quoted and not is_sent and reported.dsn[:1] == here.dsn[:1]
    for respect, differs in (
        ("status", reported.status != here.status),
        ("text", not is_sent and not same_text),
        ("relay", loops and bool(reported.relay) != bool(here.relay)),
        ("code", reported.dsn not in ("", here.dsn) and not of_one_class),
        ("code", reported.code and _class(reported.code) != _class(here.code)),
    ):
        if differs:
            return respect
    return ""


def _class(code: int) -> int:
    return code // 100


def _are_alike(one: str, other: str) -> bool:
    """Return True if two texts of Postfix say the same of other names."""
    refusals = [_REFUSAL.search(text) for text in (one, other)]
    if all(refusals):
        kinds = {found[0] for found in refusals if found}
        if len(kinds) > 1:
            return False
    words, others = (set(_words(text)) for text in (one, other))
    if not words or not others:
        return True
    return len(words & others) >= _ALIKE_MIN * len(words | others)


def _words(text: str) -> list[str]:
    return _WORD.findall(_NAMES.sub(" ", _IN_REPLY.sub("", text)).lower())
