"""A search for one message's lines loses nothing that the whole logs say about it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

import pytest

from costs import grows_like_its_length
from mail_world import World
from maillab.mail import logsearch, maillog
from maillab.mail.history import History
from maillab.mail.leg import Leg
from maillab.mail.tracing import Journeys
from maillines import ADDRESSES, arrives, mailbox, removed, tried


class OftenNew(World):
    """Hosts that rarely use a queue id again, as Postfix does."""

    def queue_id(self, host: str, mid: str) -> str:
        self.serial += 1
        self.in_use.add((host, f"F{self.serial:07X}"))
        return f"F{self.serial:07X}"


def logs_of(lines: list[tuple[str, str]]) -> dict[str, bytes]:
    logs: dict[str, bytes] = defaultdict(bytes)
    for host, line in lines:
        logs[host] += f"Nov 23 08:10:11 {host} postfix/{line.replace(':', '[1]:', 1)}\n".encode()
    return logs


def journeys_of(logs: Mapping[str, list[bytes]], message_id: str) -> list[str]:
    pairs = [(host, line) for host, lines in logs.items() for line in lines]
    events = tuple(
        maillog.parse(line, host=host, seq=seq) for seq, (host, line) in enumerate(pairs)
    )
    legs = Journeys(History(events, (), addresses=ADDRESSES)).legs
    roots = {id(leg): leg for leg in legs if leg.message_id == message_id}
    return sorted("\n".join(_root(leg).describe("")) for leg in roots.values())


def _root(leg: Leg) -> Leg:
    while isinstance(leg.parent, Leg):
        leg = leg.parent
    return leg


@pytest.mark.parametrize("world", [OftenNew, World])
def test_a_search_finds_the_same_journey_as_whole_logs(world: type[World]) -> None:
    fewer = 0
    for seed in range(8):
        lived = world(seed, messages=8)
        logs = logs_of([(host, line) for _, host, line in lived.log])
        whole = {host: log.splitlines() for host, log in logs.items()}
        for message_id in {life.mid for life in lived.lives if life.mid}:
            found = logsearch.about(message_id, logs)
            fewer += sum(map(len, found.values())) < sum(map(len, whole.values())) / 2
            assert journeys_of(found, message_id) == journeys_of(whole, message_id)
    assert fewer or world is World


def test_a_message_is_found_by_any_of_its_names() -> None:
    """With angle brackets or without."""
    lines = [
        ("a", line)
        for number in range(3)
        for line in [
            *arrives(f"AAAAA{number}", mid=f"<{number}@t>"),
            mailbox(f"AAAAA{number}"),
            removed(f"AAAAA{number}"),
        ]
    ]
    logs = logs_of(lines)

    (by_id, bare, by_queue_id) = (logsearch.about(w, logs)["a"] for w in ("<1@t>", "1@t", "AAAAA1"))
    assert by_id == bare == by_queue_id
    assert len(by_id) == len(lines) / 3
    assert all(b"AAAAA1" in line for line in by_id)
    assert logsearch.about("AAAAA7", logs) == {"a": []}


def test_a_line_that_names_no_message_makes_all_of_them_count() -> None:
    """A summary of postsuper(1), or a rule that applied before there was a queue id."""
    for line in ("postsuper: Deleted: 1 message", "smtpd: NOQUEUE: discard: RCPT from a[1]: x"):
        logs = logs_of([("a", removed("AAAAA1")), ("a", line), ("a", removed("AAAAA2"))])

        assert logsearch.about("AAAAA1", logs)["a"] == logs["a"].splitlines()


@pytest.mark.parametrize(
    "line",
    [
        "smtp: AAAA{n:06X}: to=<a>, relay=b[1]:25, dsn=2.0.0, status=sent (queued as AAAA{m:06X})",
        "smtpd: AAAA{n:06X}: client=a[1]",
        "smtp: AAAAAAAA: (queued as AAAA{n:06X} queued as AAAA{m:06X})",
    ],
    ids=["one chain", "many messages", "one message"],
)
def test_a_search_costs_the_logs_length(line: str) -> None:
    def search(log: str) -> None:
        logsearch.about("AAAA000001", {"a": log.encode()})

    assert grows_like_its_length(
        search,
        lambda n: "".join(
            f"Nov 23 08:10:11 a postfix/{line.replace(':', '[1]:', 1)}\n".format(n=k, m=k + 1)
            for k in range(n)
        ),
    )


def test_a_search_goes_on_through_lmtp() -> None:
    """Dovecot's line has the id of its reply to Postfix, and may have no other name in common."""
    reply = "250 2.0.0 <alice@b.test> 5gdZ+Kg:R2 Saved"
    given = tried("AAAAAA1", "sent", reply, service="lmtp", relay="m[198.18.0.2]:24")
    logs = logs_of([("a", line) for line in [*arrives("AAAAAA1"), given, *arrives("AAAAAA2")]])
    lmtp = b"Nov 23 08:10:12 b dovecot: lmtp(%b)<9><%b>: %b: saved mail to INBOX\n"
    saved = lmtp % (b"alice@b.test", b"5gdZ+Kg:R2", b"sieve: msgid=unspecified")
    logs["b"] = saved + lmtp % (b"bob@b.test", b"other", b"msgid=<m2@t>")

    assert logsearch.about("AAAAAA1", logs)["b"] == saved.splitlines()
    assert len(logsearch.about("5gdZ+Kg", logs)["a"]) >= 4
