"""NIS domain name not set - NIS lookups disabled.

Set alias_maps to the tables that exist: alias_maps = $alias_database works on every
version. If Postfix is built with NIS, as Debian's still is, the default contains
nis:mail.aliases after the local file, and on a host without a NIS domain the first lookup
logs the warning. Mail is delivered in any case.

Since the FAQ:
- 3.11: the type of $alias_database is default_database_type; up to 3.10 it is hash.
"""

import pytest

from maillab import Complaint, Lab

pytestmark = pytest.mark.topology("standalone")

WARNING = "dict_nis_init: NIS domain name not set - NIS lookups disabled"


def set_up(lab: Lab) -> None:
    """Build aliases in the default table, with alias_maps unset."""
    lab.mail.run("postconf", "-X", "alias_database")
    lab.mail.aliases({"team": "alice, bob"})


def try_all(lab: Lab) -> list[tuple[str, str]]:
    """Send to an alias, a user and an unknown user; return all complaints by service."""
    team = lab.client.smtp("team@example.com", server=lab.mail)
    carol = lab.client.smtp("carol@example.com", server=lab.mail)
    nobody = lab.client.smtp("nosuch@example.com", server=lab.mail)
    lab.settle(team, carol, nobody)
    assert [len(lab.mail.mailbox(user)) for user in ("alice", "bob", "carol")] == [1, 1, 1]
    assert nobody.rejected(550, "5.1.1")
    return sorted((event.service, event.text) for event in lab.events(Complaint, lab.mail))


@pytest.mark.faq("nis-domain-not-set", "32-S1")
def test_symptom_daemons_warn_of_nis(lab: Lab) -> None:
    """Each daemon that looks up an alias warns once; mail is delivered."""
    set_up(lab)
    lab.mail.configure(alias_maps="$alias_database")
    lab.mail.mistake.run("postconf", "-X", "alias_maps")
    lab.mail.mistake.restart()

    complaints = try_all(lab)

    assert set(complaints) == {("local", WARNING), ("smtpd", WARNING)}
    local = "$default_database_type" if lab.has("default_database_type=cdb") else "hash"
    default = lab.mail.run("postconf", "-dh", "alias_maps").stdout
    assert default == f"{local}:/etc/aliases, nis:mail.aliases\n"


@pytest.mark.faq("nis-domain-not-set", "32-S2")
def test_cure_alias_maps_without_nis(lab: Lab) -> None:
    """With alias_maps = $alias_database no daemon queries NIS or warns."""
    set_up(lab)
    lab.mail.run("postconf", "-X", "alias_maps")
    lab.mail.restart()
    lab.mail.cure.configure(alias_maps="$alias_database")

    complaints = try_all(lab)

    assert complaints == []


@pytest.mark.faq("nis-domain-not-set", "32-S1")
def test_behaviour_debians_postfix_is_built_with_nis(lab: Lab) -> None:
    """All versions support the table type, and no NIS domain is set."""
    assert "nis" in lab.mail.run("postconf", "-m").stdout.split()
    assert lab.mail.run("domainname").stdout == "(none)\n"
