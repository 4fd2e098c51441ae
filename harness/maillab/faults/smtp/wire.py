"""Packet filter rules that count silence, delays, ends and replies of SMTP sessions on a port.

The rules of nftables know a session by the client's address and port. They apply where
clients' packets come in, and where replies have the address that the client sees.
"""

from __future__ import annotations

from collections.abc import Sequence

from maillab.faults.path.packetfilter import CLIENT, TO_CLIENT, with_ipv6

# Names of what the rules count.
UNANSWERED, WAITING, SILENT, LATE = "unanswered", "waiting", "open but not fresh", "late"
HUNG_UP, RESET, SLOW, REPLY, COMMAND = "hung up", "reset", "by bytes", "reply", "command"
DROPPED = "dropped"
WITHOUT, CONTAINING, LONG = "EHLO without", "EHLO containing", "EHLO too long to read"

_SMTP_PORT = 25
# TCP headers without options, and with time stamps: the usual ones of packets with data.
_DATA_OFFSETS = (5, 8)
_WORD_BYTES = 4
# A reply's code is three digits.
_CODE_BYTES = 3
_IP_HEADER_BYTES = 20
# nftables compares at most 16 bytes at once, and finds nothing beyond byte 255 (nft_payload).
_COMPARED_BYTES, _OFFSET_MAX_BYTES = 16, 255
_APPLICATION_DATA, _SEAL_BYTES = b"\x17\x03\x03", 17
# The size of the alert close_notify (RFC 8446 section 6.1), in TLS before the client's FIN.
_ALERT_BYTES = 2
# A reply is late if most of the delay has passed; jiffies are coarse.
_MOST = 0.8
# A client that has pipelined its commands, and got some of the replies, waits for the rest.
# A silence of this length shows that.
_SILENCE_S = 0.3
_SESSIONS = "type ipv4_addr . inet_service; size 65535; flags dynamic"


def begins(text: bytes, *, at: int = 0) -> list[str]:
    """Return matches for data that starts with a text, one for each length of TCP header."""
    compared = text[:_COMPARED_BYTES]
    return [
        f"tcp doff {words} @th,{(words * _WORD_BYTES + at) * 8},{len(compared) * 8} "
        f"0x{compared.hex()}"
        for words in _DATA_OFFSETS
        if words * _WORD_BYTES + at + len(compared) <= _OFFSET_MAX_BYTES
    ]


def _drop(data: bytes) -> str:
    """Return rules that drop each packet whose data is exactly this."""
    return _lines(
        [
            f"    ip length {_IP_HEADER_BYTES + words * _WORD_BYTES + len(data)} "
            f'{match} counter drop comment "{DROPPED}"'
            for words, match in zip(_DATA_OFFSETS, begins(data), strict=True)
        ]
    )


def reply_begins(reply: str) -> bytes:
    """Return the text that identifies a reply: an error's code, or the text of a success."""
    # A middlebox in front may mask the text of an error, and the server itself sends no errors.
    return (reply[:3] if reply[0] in "45" else reply.partition("\n")[0]).encode()


def sealed(reply: str) -> bytes:
    """Return the header of the TLS record with exactly this reply (RFC 8446 section 5.2).

    TLS 1.3 adds the content's type and a tag of 16 bytes, whatever the cipher.
    """
    return _record(len(reply.replace("\n", "\r\n").encode() + b"\r\n"))


def _record(content_bytes: int) -> bytes:
    return _APPLICATION_DATA + (content_bytes + _SEAL_BYTES).to_bytes(2, "big")


def _data(verdict: str, *, length: str = ">", bytes_: int = 0) -> str:
    return "\n".join(
        f"    tcp doff {words} ip length {length} "
        f"{_IP_HEADER_BYTES + words * _WORD_BYTES + bytes_} {verdict}"
        for words in _DATA_OFFSETS
    )


def _ehlo(keyword: bytes) -> str:
    """Return rules that count EHLO replies with and without a word."""
    found = _anywhere(keyword, f'counter return comment "{CONTAINING}"')
    readable = _OFFSET_MAX_BYTES - max(_DATA_OFFSETS) * _WORD_BYTES
    too_long = _data(f'counter return comment "{LONG}"', bytes_=readable)
    return _lines([*found, too_long, f'    counter comment "{WITHOUT}"'])


def _anywhere(text: bytes, verdict: str) -> list[str]:
    """Return rules for data that contains a text anywhere within the reach of nftables."""
    return [
        f"    {match} {verdict}"
        for at in range(_CODE_BYTES, _OFFSET_MAX_BYTES)
        for match in begins(text, at=at)
    ]


def _lines(rules_: list[str]) -> str:
    return "\n".join(rules_)


def rules(
    *,
    replies: Sequence[bytes] = (),
    commands: Sequence[bytes] = (),
    delay_s: float = 0.0,
    extension: bytes = b"",
    ends: bool = False,
    drops: bytes = b"",
    port: int = _SMTP_PORT,
) -> str:
    """Return rules that count faults of sessions, and chosen texts in them.

    ``replies`` are the beginnings of replies to clients, ``commands`` those of commands to a
    server. ``extension`` is searched for in replies to EHLO. ``ends`` distinguishes an end
    after a farewell (221) from one without it, which costs a search through each reply.
    Packets from clients that carry exactly ``drops`` are dropped.
    """
    fresh_ms = max(1, round((delay_s * _MOST or _SILENCE_S) * 1000))
    # A client with less patience than the delay leaves after a silence, too.
    heard_ms = min(fresh_ms, round(_SILENCE_S * 1000))
    matched = [f'    {m} counter comment "{REPLY}"' for text in replies for m in begins(text)]
    sent = [f'    {m} counter comment "{COMMAND}"' for text in commands for m in begins(text)]
    # If the client pipelined QUIT, the 221 is in one packet with the reply before it.
    farewells = _anywhere(b"\r\n221 ", f"add @farewell {{ {TO_CLIENT} }} return") if ends else []
    farewell = [f"    {match} add @farewell {{ {TO_CLIENT} }}" for match in begins(b"221")]
    farewell += [f"    {match} jump farewells" for match in begins(b"250 ")] if ends else []
    ehlo = [f"    {match} goto ehlo" for match in begins(b"250-")] if extension else []
    new = _lines(matched + farewell + ehlo)
    out = _lines(sent)
    closes = [f"    {match} goto leaves" for match in begins(_record(_ALERT_BYTES))]
    return with_ipv6(f"""
table ip TABLE {{
  set {WAITING} {{ {_SESSIONS}; }}
  set fresh {{ {_SESSIONS},timeout; timeout {fresh_ms}ms; }}
  set heard {{ {_SESSIONS},timeout; timeout {heard_ms}ms; }}
  set open {{ {_SESSIONS}; }}
  set gone {{ {_SESSIONS}; }}
  set farewell {{ {_SESSIONS}; }}
  chain ehlo {{
{_ehlo(extension) if extension else ""}
  }}
  chain farewells {{
{_lines(farewells)}
  }}
  chain reply {{
    {TO_CLIENT} @open {TO_CLIENT} != @fresh counter comment "{LATE}"
    update @fresh {{ {TO_CLIENT} }}
    update @heard {{ {TO_CLIENT} }}
    delete @{WAITING} {{ {TO_CLIENT} }}
{_data(f'counter comment "{SLOW}"', length="==", bytes_=1)}
{new}
  }}
  chain to_client {{
    {TO_CLIENT} @gone return
    tcp flags rst counter comment "{RESET}"
    tcp flags & (fin | rst) == fin {TO_CLIENT} != @farewell counter comment "{HUNG_UP}"
{_data("goto reply")}
  }}
  chain says {{
    add @{WAITING} {{ {CLIENT} }}
    update @fresh {{ {CLIENT} }}
    update @heard {{ {CLIENT} }}
  }}
  chain has_left {{
    {CLIENT} @{WAITING} counter return comment "{UNANSWERED}"
    {CLIENT} != @heard counter comment "{UNANSWERED}"
  }}
  chain leaves {{
    add @gone {{ {CLIENT} }}
    {CLIENT} @open jump has_left
    delete @open {{ {CLIENT} }}
    delete @{WAITING} {{ {CLIENT} }}
  }}
  chain begins {{
    add @open {{ {CLIENT} }}
    delete @gone {{ {CLIENT} }}
    delete @farewell {{ {CLIENT} }}
    goto says
  }}
  chain from_client {{
{_lines(closes) if port != _SMTP_PORT else ""}
    tcp flags & (fin | rst) != 0 goto leaves
    tcp flags syn goto begins
{_data("goto says")}
  }}
  chain prerouting {{
    type filter hook prerouting priority raw - 20;
    iifname != "lo" tcp dport {port} jump drops
    iifname != "lo" tcp dport {port} goto from_client
  }}
  chain drops {{
{_drop(drops) if drops else ""}
  }}
  chain output {{
    type filter hook output priority raw - 20;
    tcp dport {port} jump commands
  }}
  chain commands {{
{out}
  }}
  chain postrouting {{
    type filter hook postrouting priority srcnat + 200;
    oifname != "lo" tcp sport {port} goto to_client
  }}
}}
""")
