"""NIS domain name not set - NIS lookups disabled.

Where Postfix is built with NIS, as Debian's still is, the default alias_maps
has nis:mail.aliases besides the local file; on a host without a NIS domain the
first lookup warns, and nothing is wrong otherwise. The answer stands: set
alias_maps to what there is. $alias_database says it on every version: its type
is hash up to 3.10, since 3.11 that of default_database_type.
"""

import pytest

from maillab.lab import Lab
from maillab.maillog import Complaint

pytestmark = pytest.mark.topology("standalone")

WARNING = "dict_nis_init: NIS domain name not set - NIS lookups disabled"


def set_up(lab: Lab) -> None:
    """Aliases in the table that is the default, and no alias_maps that says so."""
    lab.mail.run("postconf", "-X", "alias_database")
    lab.mail.aliases({"team": "alice, bob"})


def try_all(lab: Lab) -> list[tuple[str, str]]:
    """An alias, a user and nobody get mail; returns who complained and of what."""
    team = lab.client.submit("team@example.com", server=lab.mail)
    carol = lab.client.submit("carol@example.com", server=lab.mail)
    nobody = lab.client.submit("nosuch@example.com", server=lab.mail)
    lab.settle(team, carol, nobody)
    assert [len(lab.mail.mailbox(user)) for user in ("alice", "bob", "carol")] == [1, 1, 1]
    assert nobody.rejected(550, "5.1.1")
    return sorted((one.service, one.text) for one in lab.events(Complaint, lab.mail))


@pytest.mark.faq("nis-domain-not-set", "32-S1")
def test_symptom_daemons_warn_of_nis(lab: Lab) -> None:
    """Each that looks an alias up says it once; mail goes its way."""
    set_up(lab)
    lab.mail.configure(alias_maps="$alias_database")
    lab.mail.mistake.run("postconf", "-X", "alias_maps")
    lab.mail.mistake.restart()

    complaints = try_all(lab)

    assert set(complaints) == {("local", WARNING), ("smtpd", WARNING)}
    local = "$default_database_type" if lab.version == "3.11" else "hash"
    default = lab.mail.run("postconf", "-dh", "alias_maps").stdout
    assert default == f"{local}:/etc/aliases, nis:mail.aliases\n"


@pytest.mark.faq("nis-domain-not-set", "32-S2")
def test_cure_alias_maps_without_nis(lab: Lab) -> None:
    """With alias_maps = $alias_database nobody asks NIS and nobody complains."""
    set_up(lab)
    lab.mail.run("postconf", "-X", "alias_maps")
    lab.mail.restart()
    lab.mail.cure.configure(alias_maps="$alias_database")

    complaints = try_all(lab)

    assert complaints == []


@pytest.mark.faq("nis-domain-not-set", "32-S1")
def test_behaviour_debians_postfix_is_built_with_nis(lab: Lab) -> None:
    """All four versions have the table type, and no NIS domain is set."""
    assert "nis" in lab.mail.run("postconf", "-m").stdout.split()
    assert lab.mail.run("domainname").stdout == "(none)\n"
