"""The scenario's instructions are read from its settings, files and commands."""

from __future__ import annotations

import pytest

from maillab.mail.instructions import by_host


@pytest.mark.parametrize(
    "text",
    [
        "/^Subject: advert/ DISCARD",
        "joe@example.net\tdiscard silently",
        "transport_maps = inline:{ {example.net=discard:} }",
        "default_transport = discard",
        "postconf -e header_checks=inline:{ x=DISCARD }",
    ],
)
def test_a_discard_needs_the_word(text: str) -> None:
    asked = by_host([("a", text)])

    assert asked["a"].discard
    assert not asked["b"].discard


@pytest.mark.parametrize(
    "text",
    [
        "",
        "smtpd_discard_ehlo_keywords = dsn, silent-discard",
        "smtpd_discard_ehlo_keyword_address_maps = hash:/etc/postfix/x",
        "scanner milter --discard",
        "header_checks = regexp:/etc/postfix/checks",
    ],
)
def test_other_words_ask_for_no_discard(text: str) -> None:
    assert not by_host([("a", text)])["a"].discard


def test_a_deletion_needs_postsuper() -> None:
    assert by_host([("a", "postsuper -d ALL")])["a"].delete
    assert by_host([("a", "sh -c postqueue -j | postsuper -d -")])["a"].delete
    assert not by_host([("a", "sh -c rm /var/spool/postfix/deferred/1/1")])["a"].delete


@pytest.mark.parametrize(
    "text",
    [
        "always_bcc = carol",
        "list: alice, carol",
        "alice@example.com\tcarol@example.com",
        "virtual_alias_maps = inline:{ {a@b.test=carol@b.test} }",
        "exec sendmail -i Carol@example.com",
        '\\alice, "|cat", carol',
    ],
)
def test_a_recipient_needs_its_name(text: str) -> None:
    asked = by_host([("a", text)])

    assert asked["a"].name("carol@mail.example.com")
    assert not asked["a"].name("carola@example.com")
    assert not asked["b"].name("carol@example.com")


def test_a_name_within_another_word_is_none() -> None:
    asked = by_host([("a", "list: carolina, owner-carol")])

    assert not asked["a"].name("carol@example.com")


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("/^(.*)@virtual.example$/ joe+$1", "joe+sales@mail.example.com"),
        ('cmd@virtual.example\t"|cat > /tmp/x"', '"|cat > /tmp/x"@mail.example.com'),
    ],
)
def test_an_address_that_a_map_makes_is_named(text: str, address: str) -> None:
    asked = by_host([("a", text)])["a"]

    assert asked.name(address)
    assert not asked.name(f"x{address}")


def test_a_map_may_redirect_a_whole_domain() -> None:
    """Two of its recipients may then be merged, but neither is named."""
    asked = by_host([("a", "@virtual.example\tjoe")])["a"]

    assert asked.catch("sales@virtual.example")
    assert not asked.name("sales@virtual.example")
    assert not asked.catch("sales@sub.virtual.example")


def test_in_a_lab_by_hand_any_instruction_is_possible() -> None:
    asked = by_host(None)["a"]

    assert asked.discard
    assert asked.delete
    assert asked.name("carol@example.com")
