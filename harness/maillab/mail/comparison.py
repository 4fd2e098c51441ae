"""Comparison of a stored message with the one that was sent.

Both messages are parsed into a canonical form, since a mail system may legally change
line ends (RFC 5321 section 2.3.8), dot-stuffing (section 4.5.2), transfer encodings
(RFC 6152), folding (RFC 5322 section 2.2.3) and, in an mbox, ``From `` lines. A mail
system may also add trace headers and missing headers, and may complete addresses.
Every other change is a difference.
"""

from __future__ import annotations

import email
import email.policy
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from email.message import Message
from email.utils import getaddresses
from typing import cast

_Header = tuple[str, str]

_TRACE = {
    "received", "delivered-to", "x-original-to",
    # Of signing and checking (RFC 6376, 7208, 8601, 8617).
    "arc-authentication-results", "arc-message-signature", "arc-seal", "authentication-results",
    "dkim-signature", "received-spf",
}  # fmt: skip
# cleanup(8) removes these headers (message_drop_headers, postconf(5)).
DROPPED = frozenset({"bcc", "content-length", "resent-bcc", "return-path"})
# A transfer encoding may change: bodies are compared decoded.
_RECODED = {"content-transfer-encoding"}
# Mail systems add these where missing (RFC 6409 section 8); so do programs that store mail.
_MISSING = {"date", "from", "message-id", "mime-version"}
_MISSING_WHEN_RESENT = {"resent-date", "resent-from", "resent-message-id"}
_MAILBOX = {"content-length", "status", "x-imap", "x-imapbase", "x-keywords", "x-status", "x-uid"}
# The content type of a message without these headers (RFC 2045 section 5.2).
_DEFAULTS = {
    "content-type": re.compile(
        r"text/plain(; ?charset=\"?(us-ascii|unknown-8bit)\"?)?", re.IGNORECASE
    ),
    "to": re.compile(r"undisclosed[- ]recipients: ?;", re.IGNORECASE),
}
# Headers whose addresses cleanup(8) and smtp(8) rewrite (postconf(5) masquerade_classes).
_ADDRESSES = {
    "apparently-to", "bcc", "cc", "disposition-notification-to", "errors-to", "from", "reply-to",
    "resent-bcc", "resent-cc", "resent-from", "resent-reply-to", "resent-sender", "resent-to",
    "return-receipt-to", "sender", "to",
}  # fmt: skip
_SHOWN_CHARACTERS_MAX = 100


@dataclass(frozen=True)
class Rewriting:
    """The header changes that the configuration of hosts allows.

    ``origins`` are the domains that complete an address (myorigin, mydomain,
    remote_header_rewrite_domain). ``masquerades`` are those of masquerade_domains.
    ``mapped`` is True if a table such as canonical_maps may change any address to any
    other. ``dropped`` headers are removed. ``headers`` may change, appear or disappear.
    ``reordered`` is True if the host may change the order of headers, as Sendmail does.
    """

    origins: frozenset[str] = frozenset()
    masquerades: frozenset[str] = frozenset()
    dropped: frozenset[str] = DROPPED
    headers: frozenset[str] = frozenset()
    mapped: bool = False
    reordered: bool = False

    def __or__(self, other: Rewriting) -> Rewriting:
        """Return the changes that either of the two allows."""
        return Rewriting(
            **{
                field.name: getattr(self, field.name) | getattr(other, field.name)
                for field in fields(self)
            }
        )


def difference(sent: bytes, stored: bytes, rewriting: Rewriting = Rewriting()) -> str:
    """Describe the first difference that no mail system may make; "" if there is none."""
    return next(_differences(_parse(sent), _parse(stored), rewriting), "")


def _parse(raw: bytes) -> Message:
    return email.message_from_bytes(raw.replace(b"\r\n", b"\n"), policy=email.policy.compat32)


def _differences(sent: Message, stored: Message, rewriting: Rewriting) -> Iterator[str]:
    before, after = _headers(sent), _headers(stored)
    for name in dict.fromkeys([*before, *after]):
        if name in rewriting.headers or name in _RECODED:
            continue
        old, new = before.get(name, []), after.get(name, [])
        if name in _TRACE:
            # A mail system adds trace headers above the old ones.
            if old and old != new[-len(old) :]:
                yield _changed(name, old, new)
        elif not (_same(name, old, new, rewriting) or _may_be_added(name, old, new, before)):
            yield _changed(name, old, new)
    if not rewriting.reordered:
        yield from _moved(before, after, rewriting.headers | _TRACE)
    yield from _bodies(sent, stored, "", rewriting.headers)


def _headers(part: Message) -> dict[str, list[str]]:
    """Return the values of each header by its name in lower case, unfolded."""
    found: dict[str, list[str]] = defaultdict(list)
    # raw_items() is the only access to the values as written.
    for name, value in cast("Iterable[_Header]", part.raw_items()):
        found[name.lower()].append(" ".join(str(value).split()))
    return dict(found)


def _same(name: str, old: list[str], new: list[str], rewriting: Rewriting) -> bool:
    if old == new or (name in rewriting.dropped and not new):
        return True
    if name == "return-path":
        return True
    if name not in _ADDRESSES or len(old) != len(new):
        return False
    before, after = getaddresses(old), getaddresses(new)
    return len(before) == len(after) and all(
        # A header that does not parse as addresses has none.
        address and name == new_name and _is_rewritten(address, new_address, rewriting)
        for (name, address), (new_name, new_address) in zip(before, after, strict=True)
    )


def _is_rewritten(old: str, new: str, rewriting: Rewriting) -> bool:
    """Return True if the addresses are equal or rewriting may turn one into the other."""
    if rewriting.mapped or _fold(old) == _fold(new):
        return True
    local, at, domain = _standard(old).rpartition("@")
    if not at:
        return any(_fold(f"{domain}@{origin}") == _fold(new) for origin in rewriting.origins)
    names = {domain.lower()}
    if "." not in domain:
        names |= {f"{domain}.{origin}".lower() for origin in rewriting.origins}
    names |= {
        hidden for hidden in rewriting.masquerades for name in names if name.endswith(f".{hidden}")
    }
    return any(_fold(f"{local}@{name}") == _fold(new) for name in names)


def _standard(address: str) -> str:
    """Write SITE!USER and USER%SITE as USER@SITE (trivial-rewrite(8))."""
    if "@" in address:
        return address
    site, bang, user = address.partition("!")
    if bang:
        return f"{user}@{site}"
    user, percent, site = address.rpartition("%")
    return f"{user}@{site}" if percent else address


def _fold(address: str) -> str:
    local, at, domain = address.rpartition("@")
    return f"{local}{at}{domain.lower()}"


def _may_be_added(name: str, old: list[str], new: list[str], before: dict[str, list[str]]) -> bool:
    """Return True if a mail system may add this header to a message that lacks it."""
    if old or len(new) != 1:
        return False
    resent = any(header.startswith("resent-") for header in before)
    if name in _MISSING | _MAILBOX or (resent and name in _MISSING_WHEN_RESENT):
        return True
    return name in _DEFAULTS and bool(_DEFAULTS[name].fullmatch(new[0]))


def _moved(
    before: dict[str, list[str]], after: dict[str, list[str]], free: Iterable[str]
) -> Iterator[str]:
    """Describe headers whose order changed."""
    old = [name for name in before if name in after and name not in set(free) | {"return-path"}]
    new = [name for name in after if name in old]
    for was, is_ in zip(old, new, strict=True):
        if was != is_:
            yield f"the headers stand in another order: {_title(is_)} comes before {_title(was)}"
            return


def _bodies(sent: Message, stored: Message, place: str, free: frozenset[str]) -> Iterator[str]:
    """Describe the differences between two bodies, or between the parts of two messages."""
    where = f"part {place}: " if place else ""
    if not (sent.is_multipart() and stored.is_multipart()):
        if sent.is_multipart() or stored.is_multipart():
            yield f"{where}it has {_count(stored)}, and had {_count(sent)}"
        else:
            yield from _texts(f"{where}the body", _text(sent), _text(stored))
        return
    old, new = _parts(sent), _parts(stored)
    if len(old) != len(new):
        yield f"{where}it has {_count(stored)}, and had {_count(sent)}"
    for number, (was, is_) in enumerate(zip(old, new, strict=False), 1):
        inner = f"{place}.{number}".lstrip(".")
        before, after = _headers(was), _headers(is_)
        for name in dict.fromkeys([*before, *after]):
            values = before.get(name, []), after.get(name, [])
            if name not in free | _RECODED and values[0] != values[1]:
                yield f"part {inner}: {_changed(name, *values)}"
        yield from _bodies(was, is_, inner, free)
    for name in ("preamble", "epilogue"):
        lines = [(getattr(part, name) or "").encode(errors="surrogateescape") for part in
                 (sent, stored)]  # fmt: skip
        yield from _texts(f"{where}the text {_ASIDE[name]} the parts", *map(_canonical, lines))


_ASIDE = {"preamble": "before", "epilogue": "after"}


def _parts(message: Message) -> list[Message]:
    return cast("list[Message]", message.get_payload())


def _count(message: Message) -> str:
    count = len(_parts(message)) if message.is_multipart() else 0
    return f"{count} part{'s' * (count != 1)}" if count else "no parts"


def _text(part: Message) -> bytes:
    payload = part.get_payload(decode=True)
    return _canonical(payload if isinstance(payload, bytes) else str(payload).encode())


def _canonical(body: bytes) -> bytes:
    unix = body.replace(b"\r\n", b"\n").rstrip(b"\n")
    return re.sub(rb"(?m)^>+(?=From )", b"", unix)


def _texts(what: str, old: bytes, new: bytes) -> Iterator[str]:
    if old == new:
        return
    before, after = old.split(b"\n"), new.split(b"\n")
    for number, (was, is_) in enumerate(zip(before, after, strict=False), 1):
        if was != is_:
            yield f"{what} differs in line {number}: {_shown(is_)}, was {_shown(was)}"
            return
    count = len(after)
    yield f"{what} has {count} line{'s'[: count != 1]}, and had {len(before)}"


def _changed(name: str, old: list[str], new: list[str]) -> str:
    title = _title(name)
    if not old:
        return f"header {title} was added: {_shown(', '.join(new))}"
    if not new:
        return f"header {title} was removed: {_shown(', '.join(old))}"
    return f"header {title} is {_shown(', '.join(new))}, was {_shown(', '.join(old))}"


def _title(name: str) -> str:
    special = {"id": "ID", "mime": "MIME"}
    return "-".join(special.get(word, word.capitalize()) for word in name.split("-"))


def _shown(text: str | bytes) -> str:
    if isinstance(text, bytes):
        text = text.decode("ascii", "backslashreplace")
    short = text[:_SHOWN_CHARACTERS_MAX] + "…" * (len(text) > _SHOWN_CHARACTERS_MAX)
    return repr(short.encode("ascii", "backslashreplace").decode() if "…" not in short else short)
