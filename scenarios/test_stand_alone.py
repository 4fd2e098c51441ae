"""Stand-alone machine: sends and receives its own mail and needs no other.

Mail addressed to the machine's own name needs no configuration; list a domain in
mydestination. If strangers in the same network can relay, main.cf was written before 3.0
and has no compatibility_level: set mynetworks_style = host. Postfix relays for nobody else.

If the log says "using backwards-compatible default setting mynetworks_style=subnet to permit
request", the machine was upgraded and its neighbours relay: set compatibility_level = 2, or a
later one after you have read COMPATIBILITY_README.

Since the FAQ:
- 2.0: the SMTP server refuses unknown users (local_recipient_maps).
- 2.10: a separate list controls relaying, smtpd_relay_restrictions.
- 3.0: Postfix trusts only itself, with compatibility_level 2 or later; before, its subnet,
  and in the FAQ's days its class A, B or C network (mynetworks_style).
- 3.0: relay_domains is empty, with compatibility_level 2 or later; before, a machine relayed
  for the subdomains of its own domains.
"""

import pytest

from maillab import Accepted, Disconnected, Event, Lab

pytestmark = pytest.mark.topology("standalone")

# The default of mydestination: the machine's own names and no domain.
NO_DOMAIN = "$myhostname, localhost.$mydomain, localhost"


@pytest.mark.faq("stand-alone", "1a")
def test_behaviour_mail_for_a_local_user_is_stored(lab: Lab) -> None:
    """Mail from outside for the machine's own name needs no configuration."""
    lab.mail.configure(mydestination=NO_DOMAIN)

    mail = lab.remote.send(to="joe@mail.example.com")
    lab.settle(mail)

    assert mail.delivered_to(lab.mail, mailbox="joe")
    (copy,) = lab.mail.mailbox("joe")
    assert copy["Return-Path"] == "<bob@remote.example.net>"
    assert copy["Delivered-To"] == "joe@mail.example.com"


@pytest.mark.faq("stand-alone", "1a")
@pytest.mark.parametrize(
    ("recipient", "code", "dsn", "reason"),
    [
        (
            "nosuch@mail.example.com",
            550,
            "5.1.1",
            "Recipient address rejected: User unknown in local recipient table",
        ),
        ("joe@remote.example.net", 454, "4.7.1", "Relay access denied"),
        ("joe@below.mail.example.com", 454, "4.7.1", "Relay access denied"),
    ],
    ids=["unknown-user", "elsewhere", "subdomain"],
)
def test_behaviour_other_mail_from_outside_is_refused(
    lab: Lab, recipient: str, code: int, dsn: str, reason: str
) -> None:
    """Unknown users and other domains are refused at RCPT TO."""
    mail = lab.client.smtp(recipient, server=lab.mail)

    lab.settle(mail)

    assert mail.rejected(code, dsn, saying=f"<{recipient}>: {reason}")
    assert not mail.reached(lab.mail)
    assert not mail.reached(lab.remote)


@pytest.mark.faq("stand-alone", "1a")
def test_behaviour_a_user_sends_to_the_internet(lab: Lab) -> None:
    """A user's mail leaves by MX, from user@machine."""
    mail = lab.mail.send(to="joe@example.net", user="alice")

    lab.settle(mail)

    assert mail.delivered_to(lab.remote, mailbox="joe")
    (copy,) = lab.remote.mailbox("joe")
    assert copy["Return-Path"] == "<alice@mail.example.com>"
    assert copy["From"] == "alice@mail.example.com"
    assert "by mail.example.com (Postfix, from userid " in str(copy)


@pytest.mark.topology("as-installed")
@pytest.mark.faq("stand-alone", "1a")
def test_behaviour_as_installed_it_sends_and_receives(lab: Lab) -> None:
    """As Debian installs it the machine takes mail for its own name and sends mail to others."""
    received = lab.client.smtp("joe@mail.example.com", server=lab.mail)
    sent = lab.mail.send(to="joe@remote.example.net", user="alice")
    lab.settle(received, sent)

    assert received.delivered_to(lab.mail, mailbox="joe")
    assert sent.delivered_to(lab.remote, mailbox="joe")
    (copy,) = lab.remote.mailbox("joe")
    assert copy["From"] == "alice@mail.example.com"


@pytest.mark.topology("as-installed")
@pytest.mark.faq("stand-alone", "1a", "1b")
def test_behaviour_as_installed_other_mail_is_refused(lab: Lab) -> None:
    """As Debian installs it the machine trusts no neighbour, and its domain is not local."""
    unknown = lab.client.smtp("nosuch@mail.example.com", server=lab.mail)
    others = [
        lab.client.smtp(recipient, server=lab.mail)
        for recipient in ("joe@remote.example.net", "joe@below.mail.example.com", "joe@example.com")
    ]
    lab.settle(unknown, *others)

    assert unknown.rejected(550, "5.1.1", saying="User unknown in local recipient table")
    assert all(mail.rejected(454, "4.7.1", saying="Relay access denied") for mail in others)


@pytest.mark.topology("as-installed")
@pytest.mark.faq("stand-alone", "1c")
def test_cure_as_installed_the_domain_is_listed(lab: Lab) -> None:
    """Adding the domain to Debian's mydestination is enough."""
    listed = lab.mail.postconf("mydestination")
    lab.mail.cure.configure(mydestination=f"example.com, {listed}")

    mail = lab.client.smtp("joe@example.com", server=lab.mail)
    lab.settle(mail)

    assert mail.delivered_to(lab.mail, mailbox="joe")


@pytest.mark.topology("as-installed")
@pytest.mark.faq("stand-alone")
def test_behaviour_as_installed_the_level_is_the_newest(lab: Lab) -> None:
    """A new installation has the last compatibility_level that its release knows."""
    assert lab.mail.postconf("compatibility_level") == lab.compatibility_levels[-1]


@pytest.mark.faq("stand-alone", "1b")
def test_symptom_the_neighbours_relay(lab: Lab) -> None:
    """With mynetworks_style=subnet the machine relays for every host in its subnet."""
    lab.mail.misconfigure(mynetworks_style="subnet")

    mail = lab.client.smtp("joe@example.net", server=lab.mail)
    lab.settle(mail)

    assert mail.delivered_to(lab.remote, mailbox="joe")


@pytest.mark.faq("stand-alone", "1b")
def test_cure_the_machine_trusts_only_itself(lab: Lab) -> None:
    """With mynetworks_style=host, the default today, neighbours may not relay."""
    lab.mail.configure(mynetworks_style="subnet")
    lab.mail.cure.configure(mynetworks_style="host")

    mail = lab.client.smtp("joe@example.net", server=lab.mail)
    own = lab.mail.send(to="joe@example.net")
    lab.settle(mail, own)

    assert mail.rejected(454, "4.7.1", saying="<joe@example.net>: Relay access denied")
    assert own.delivered_to(lab.remote, mailbox="joe")


# The relay control of a main.cf from before 2.10.
OLD_RESTRICTIONS = "permit_mynetworks, reject_unauth_destination"
COMPATIBLE = "using backwards-compatible default setting mynetworks_style=subnet to permit request"


@pytest.mark.faq("stand-alone", "1b")
def test_symptom_an_upgraded_machine_trusts_its_neighbours(lab: Lab) -> None:
    """Without compatibility_level in main.cf the subnet may relay; the log names the reason."""
    lab.mail.configure(smtpd_recipient_restrictions=OLD_RESTRICTIONS)
    lab.mail.mistake.run("postconf", "-X", "compatibility_level")
    lab.mail.mistake.restart()

    mail = lab.client.smtp("joe@example.net", server=lab.mail)
    lab.settle(mail)

    assert mail.delivered_to(lab.remote, mailbox="joe")
    assert [event for event in lab.events(Event, lab.mail) if COMPATIBLE in event.text]


@pytest.mark.faq("stand-alone", "1b")
@pytest.mark.parametrize(
    "settings",
    [{"compatibility_level": "2"}, {"mynetworks_style": "host"}],
    ids=["level", "style"],
)
def test_cure_an_upgraded_machine_trusts_only_itself(lab: Lab, settings: dict[str, str]) -> None:
    """Level 2, or mynetworks_style=host alone, closes the relay."""
    lab.mail.configure(smtpd_recipient_restrictions=OLD_RESTRICTIONS)
    lab.mail.run("postconf", "-X", "compatibility_level")
    lab.mail.restart()
    lab.mail.cure.configure(**settings)

    mail = lab.client.smtp("joe@example.net", server=lab.mail)
    lab.settle(mail)

    assert mail.rejected(554, "5.7.1", saying="<joe@example.net>: Relay access denied")
    assert not [event for event in lab.events(Event, lab.mail) if COMPATIBLE in event.text]


@pytest.mark.faq("stand-alone", "1b")
def test_behaviour_the_level_decides_who_may_relay(lab: Lab) -> None:
    """Below level 2 neighbours may relay, and anyone to subdomains of the machine's domain.

    From level 3.6 on smtpd_relay_restrictions decides first, and its default is to defer.
    """
    lab.mail.configure(
        smtpd_recipient_restrictions=OLD_RESTRICTIONS,
        smtpd_authorized_xclient_hosts=lab.client.address,
    )

    codes = {}
    for level in lab.compatibility_levels:
        lab.mail.configure(compatibility_level=level)
        with lab.client.session(lab.mail) as session:
            session.ehlo()
            session.mail("bob@client.example.net")
            relayed = session.rcpt("joe@example.net").code
            session.command("XCLIENT NAME=[UNAVAILABLE] ADDR=192.0.2.77")
            session.ehlo()
            session.mail("bob@client.example.net")
            codes[level] = relayed, session.rcpt("joe@below.example.com").code

    open_, refused, deferred = (250, 250), (554, 554), (454, 454)
    expected = dict.fromkeys(("0", "1"), open_) | {"2": refused}
    expected |= dict.fromkeys(("3.6", "3.9", "3.11"), deferred)
    assert codes == {level: expected[level] for level in lab.compatibility_levels}


@pytest.mark.faq("stand-alone")
def test_behaviour_the_level_decides_about_smtputf8(lab: Lab) -> None:
    """At level 0 the server does not offer SMTPUTF8."""
    lab.mail.configure(smtpd_relay_restrictions=OLD_RESTRICTIONS)

    offered = {}
    for level in lab.compatibility_levels:
        lab.mail.configure(compatibility_level=level)
        with lab.client.session(lab.mail) as session:
            offered[level] = "SMTPUTF8" in str(session.ehlo())

    assert offered == {level: level != "0" for level in lab.compatibility_levels}


@pytest.mark.faq("stand-alone", "1a")
def test_behaviour_the_level_decides_what_a_short_name_means(lab: Lab) -> None:
    """At level 0 joe@mail is joe@mail.example.com (append_dot_mydomain); from 1 on it bounces."""
    lab.mail.run("postconf", "-X", "append_dot_mydomain")
    lab.mail.configure(smtpd_relay_restrictions=OLD_RESTRICTIONS)

    ends = {}
    for level in lab.compatibility_levels:
        lab.mail.configure(compatibility_level=level)
        mail = lab.mail.send(to="joe@mail")
        lab.settle(mail)
        ends[level] = bool(mail.delivered_to(lab.mail, mailbox="joe")), bool(mail.bounced())

    expected = {level: (level == "0", level != "0") for level in lab.compatibility_levels}
    assert ends == expected


@pytest.mark.faq("stand-alone", "1b")
def test_symptom_strangers_relay_to_subdomains(lab: Lab) -> None:
    """The default of relay_domains before 3.0, $mydestination, includes every subdomain."""
    lab.mail.misconfigure(relay_domains="$mydestination")

    with lab.client.session(lab.mail) as session:
        session.ehlo()
        session.mail("bob@client.example.net")
        below = session.rcpt("joe@below.mail.example.com")
        elsewhere = session.rcpt("joe@example.net")
        session.quit()

    assert below.code == 250
    assert str(elsewhere) == "454 4.7.1 <joe@example.net>: Relay access denied"


@pytest.mark.faq("stand-alone", "1b")
def test_cure_the_machine_relays_to_no_domain(lab: Lab) -> None:
    """With relay_domains empty, as by default today, mail for subdomains is refused."""
    lab.mail.configure(relay_domains="$mydestination")
    lab.mail.cure.configure(relay_domains="")

    mail = lab.client.smtp("joe@below.mail.example.com", server=lab.mail)

    lab.settle(mail)

    assert mail.rejected(454, "4.7.1", saying="<joe@below.mail.example.com>: Relay access denied")


@pytest.mark.faq("stand-alone", "1b")
@pytest.mark.topology("standalone", pool="10.198.0.0/16")
@pytest.mark.parametrize(
    ("style", "neighbour", "stranger"),
    [("host", 454, 454), ("subnet", 250, 454), ("class", 250, 250)],
)
def test_historic_trust_by_class_covers_millions(
    lab: Lab, style: str, neighbour: int, stranger: int
) -> None:
    """In 10/8 "subnet" trusts the machine's /24, and "class" all 16 million addresses."""
    lab.mail.configure(mynetworks_style=style, smtpd_authorized_xclient_hosts=lab.client.address)

    replies = {}
    for address in (lab.remote.address, "10.77.0.22"):
        with lab.client.session(lab.mail) as session:
            session.ehlo()
            session.command(f"XCLIENT NAME=[UNAVAILABLE] ADDR={address}")
            session.ehlo()
            session.mail("bob@client.example.net")
            replies[address] = session.rcpt("joe@example.net").code

    assert replies == {lab.remote.address: neighbour, "10.77.0.22": stranger}


@pytest.mark.faq("stand-alone", "1c")
def test_symptom_a_domain_that_is_not_listed_is_not_ours(lab: Lab) -> None:
    """Being a domain's MX is not enough: Postfix refuses its mail as relaying."""
    lab.mail.misconfigure(mydestination=NO_DOMAIN)

    mail = lab.remote.send(to="joe@example.com")
    lab.settle(mail)

    assert mail.deferred(dsn="4.7.1", saying="said: 454 4.7.1 <joe@example.com>: Relay access")
    assert mail.held_by(lab.remote)
    assert not mail.reached(lab.mail)


@pytest.mark.faq("stand-alone", "1c")
def test_symptom_own_mail_for_a_domain_not_listed_loops_back(lab: Lab) -> None:
    """The machine looks up the domain's MX, finds itself and bounces the mail."""
    lab.mail.misconfigure(mydestination=NO_DOMAIN)

    mail = lab.mail.send(to="joe@example.com", user="bob")
    lab.settle(mail)

    assert mail.bounced(dsn="5.4.6", saying="mail for example.com loops back to myself")
    (notice,) = lab.mail.mailbox("bob")
    assert "Diagnostic-Code: X-Postfix; mail for example.com loops back to myself" in str(notice)


@pytest.mark.faq("stand-alone", "1c")
def test_cure_the_domain_is_listed(lab: Lab) -> None:
    """With the domain in mydestination its mail is local, from inside and outside."""
    lab.mail.configure(mydestination=NO_DOMAIN)
    lab.mail.cure.configure(mydestination=f"{NO_DOMAIN}, $mydomain")

    outside = lab.remote.send(to="joe@example.com")
    inside = lab.mail.send(to="alice@example.com")
    lab.settle(outside, inside)

    assert outside.delivered_to(lab.mail, mailbox="joe")
    assert inside.delivered_to(lab.mail, mailbox="alice")


def smuggle(lab: Lab) -> list[str]:
    """Hide a message to carol inside one to alice, after a dot between bare newlines.

    Return the users that got mail.
    """
    with lab.client.session(lab.mail) as session:
        session.ehlo()
        session.mail("bob@client.example.net")
        session.rcpt("alice@example.com")
        session.command("DATA")
        session.command(
            "Subject: outer\r\n\r\nHello\n.\n"
            "MAIL FROM:<ceo@example.com>\r\nRCPT TO:<carol@example.com>\r\nDATA\r\n"
            "Subject: inner\r\n\r\nsmuggled\r\n."
        )
        session.quit()
        lab.wait_for(Disconnected, host=lab.mail)
    lab.settle()
    return [user for user in ("alice", "carol") if lab.mail.mailbox(user)]


BARE_NEWLINES_PASS = {"smtpd_forbid_bare_newline": "no", "smtpd_forbid_unauth_pipelining": "no"}


@pytest.mark.faq("stand-alone")
def test_symptom_a_message_is_smuggled_in(lab: Lab) -> None:
    """If a bare newline ends a line, one message can smuggle in another."""
    lab.mail.configure(smtpd_forbid_bare_newline="normalize")
    lab.mail.misconfigure(**BARE_NEWLINES_PASS)

    got_mail = smuggle(lab)

    assert got_mail == ["alice", "carol"]
    assert len(lab.events(Accepted, lab.mail)) == 2


@pytest.mark.faq("stand-alone")
@pytest.mark.parametrize(("value", "takers"), [("normalize", ["alice"]), ("reject", [])])
def test_cure_bare_newlines_end_no_message(lab: Lab, value: str, takers: list[str]) -> None:
    """The hidden message stays text of the outer one, or is rejected with it."""
    lab.mail.configure(**BARE_NEWLINES_PASS)
    lab.mail.cure.configure(smtpd_forbid_bare_newline=value)

    got_mail = smuggle(lab)

    assert got_mail == takers


@pytest.mark.faq("stand-alone")
def test_behaviour_out_of_the_box_nothing_is_smuggled_in_since_3_9(lab: Lab) -> None:
    """Postfix before 3.9 may have the protection, but off by default."""
    got_mail = smuggle(lab)

    assert got_mail == (
        ["alice"] if lab.has("smtpd_forbid_bare_newline=normalize") else ["alice", "carol"]
    )
