"""SPF, DKIM and DMARC results, and the answer that follows from them."""

from __future__ import annotations

import pytest

import authresults
from authresults import Checked, Policy, Signature

VALID = Signature("pass", "example.com", "mail")
BROKEN = Signature("fail", "example.com", "mail")


@pytest.mark.parametrize(
    ("domain", "author", "mode", "is_aligned"),
    [
        ("example.com", "example.com", "s", True),
        ("Example.com", "example.COM", "s", True),
        ("mail.example.com", "example.com", "s", False),
        ("mail.example.com", "example.com", "r", True),
        ("example.com", "news.example.com", "r", True),
        ("example.org", "example.com", "r", False),
    ],
)
def test_alignment(domain: str, author: str, mode: str, *, is_aligned: bool) -> None:
    assert authresults.aligned(domain, author, mode) is is_aligned


@pytest.mark.parametrize(
    ("record", "subdomain", "policy"),
    [
        ("v=DMARC1; p=reject", False, Policy("reject", "r", "r")),
        ("v=DMARC1;p=quarantine; adkim=s; aspf=s", False, Policy("quarantine", "s", "s")),
        ("v=DMARC1; p=reject; sp=none", True, Policy("none", "r", "r")),
        ("v=DMARC1; p=reject", True, Policy("reject", "r", "r")),
        ("v=DMARC1; rua=mailto:a@example.com", False, Policy("none", "r", "r")),
    ],
)
def test_a_published_policy(record: str, *, subdomain: bool, policy: Policy) -> None:
    assert authresults.policy_of(record, subdomain=subdomain) == policy


@pytest.mark.parametrize(
    ("spf", "signatures", "policy", "dmarc"),
    [
        ("pass", [], Policy("reject"), "pass"),
        ("fail", [VALID], Policy("reject"), "pass"),
        ("fail", [BROKEN, VALID], Policy("reject"), "pass"),
        ("fail", [BROKEN], Policy("reject"), "fail"),
        ("pass", [], Policy("reject", spf="s"), "fail"),
        ("softfail", [VALID], Policy("reject", dkim="s"), "pass"),
    ],
)
def test_one_aligned_domain_that_passed_is_enough(
    spf: str, signatures: list[Signature], policy: Policy, dmarc: str
) -> None:
    checked = Checked("example.com", "bounces.example.com", spf, signatures)

    checked.apply(policy)

    assert (checked.dmarc, checked.policy) == (dmarc, "reject")


@pytest.mark.parametrize(
    ("checked", "word", "status"),
    [
        (Checked("a.example", "a.example", "pass"), "accept", ""),
        (Checked("a.example", "a.example", "none", [VALID]), "accept", ""),
        (Checked("a.example", "a.example", "fail", [BROKEN]), "reject", "5.7.26"),
        (Checked("a.example", "a.example", "temperror"), "defer", "4.7.26"),
        (Checked("a.example", "a.example", "temperror", [VALID]), "accept", ""),
        (Checked("a.example", "b.example", "pass", [], "fail", "reject"), "reject", "5.7.26"),
        (Checked("a.example", "b.example", "pass", [], "fail", "quarantine"), "accept", ""),
        (Checked("a.example", "b.example", "pass", [], "fail", "none"), "accept", ""),
    ],
)
def test_the_answer_of_a_big_provider(checked: Checked, word: str, status: str) -> None:
    decided, answer = authresults.decided(checked, "reject")

    assert (decided, answer[1] if answer else "") == (word, status)


def test_a_provider_may_put_unauthenticated_mail_off_or_accept_it() -> None:
    stranger = Checked("a.example", "a.example", "none")

    assert authresults.decided(stranger, "defer")[0] == "defer"
    assert authresults.decided(stranger, "accept") == ("accept", None)


def test_results_are_written_as_in_their_header() -> None:
    checked = Checked("example.com", "example.com", "pass", [VALID], "pass", "none")

    assert checked.text() == (
        "spf=pass smtp.mailfrom=example.com; dkim=pass header.d=example.com header.s=mail; "
        "dmarc=pass (p=none) header.from=example.com"
    )


def test_settings_are_lines_with_a_name_and_a_value() -> None:
    text = "# Socket inet:1\nSocket inet:8895@127.0.0.1\n\nUnauthenticated  defer\n"

    assert authresults.settings(text) == {
        "Socket": "inet:8895@127.0.0.1",
        "Unauthenticated": "defer",
    }
