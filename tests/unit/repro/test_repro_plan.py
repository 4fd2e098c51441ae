"""A report, mapped to a lab: changes, omissions, and the notes about them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maillab.errors import BadInput
from maillab.repro import absent, answers, plan, services
from maillab.repro.answers import Answer
from maillab.repro.report import read
from reports import (
    LOGGED,
    REPORTS,
    SCENE,
    SUBMITTED,
    WAYS,
    drawn_from,
    planned,
    reported,
)


def test_names_and_addresses_are_replaced_by_the_labs() -> None:
    """In settings, sender and recipients alike, with a note."""
    drawn = planned("relay-access-denied")

    assert drawn.settings["mydestination"] == (
        "$myhostname, example.com, localhost.example.com, localhost"
    )
    assert (drawn.sender, drawn.recipients) == ("joe@example.com", ["anna@example.net"])
    assert "10.2.0.7 is 198.18.0.30" in drawn.mapped


def test_the_labs_own_names_stay() -> None:
    """Given with --from and --to, they are not changed."""
    drawn = plan.make(
        read("biff = no"), SCENE, tables={},
        sender="joe@remote.example.net", recipients=["alice@mail.example.com", "bob@example.com"],
    )  # fmt: skip

    assert drawn.recipients == ["alice@mail.example.com", "bob@example.com"]
    assert drawn.sender == "joe@remote.example.net"


def test_names_that_the_lab_has_for_others_are_changed_once() -> None:
    """Reports are anonymised with example.com and example.net, but with the roles exchanged."""
    drawn = drawn_from(
        f"myhostname = mail.example.net\nmydestination = $myhostname, example.net\n{LOGGED}"
    )

    assert drawn.settings["mydestination"] == "$myhostname, example.com"
    assert (drawn.sender, drawn.recipients) == ("bob@example.com", ["a@example.net"])


def test_recipients_of_two_domains_stay_two() -> None:
    """Both domains are on the lab's other host; each recipient keeps its reported fate."""
    other = LOGGED.replace("example.com", "example.org").replace("4.4.1", "4.7.1")

    drawn = drawn_from(f"biff = no\n{LOGGED}{other}")

    assert {name: fate.dsn for name, fate in drawn.reported.items()} == {
        "a@example.net": "4.4.1", "a2@example.net": "4.7.1",
    }  # fmt: skip
    assert "a@example.org is a2@example.net" in drawn.mapped


def test_the_simulated_reply_of_the_other_server_has_a_note() -> None:
    """A reader of the outcome must know that the server was simulated."""
    (note,) = [line for line in planned("greylisted").mapped if "the other server" in line]

    assert "says '450 4.7.1 <member@elsewhere.example>" in note


def test_next_hops_are_the_labs_and_character_classes_are_none() -> None:
    """In tables, too, where the port is removed with a note."""
    drawn = drawn_from(
        f"transport_maps = pcre:/t\nsender_dependent_relayhost_maps = hash:/s\n{LOGGED}",
        __t="/^[a-z0-9.]+@[0-9]\\.x/ smtp:[gw]:2525\n",
        __s="@a.example [out.a.example]:587\n",
    )

    assert [table.text for table in drawn.tables] == [
        "/^[a-z0-9.]+@[0-9]\\.x/ smtp:[remote.example.net]\n",
        "@a.example [remote.example.net]\n",
    ]
    assert "[gw]:2525 in /t is [remote.example.net]" in drawn.mapped


@pytest.mark.parametrize(
    "path", ["${indexed}virtual", "hash:$config_directory/virtual",
             "hash:${config_directory}/virtual", "$default_database_type:/etc/postfix/virtual",
             "proxy:hash:/etc/postfix/virtual"],
)  # fmt: skip
def test_tables_are_found_through_references(path: str) -> None:
    """In the forms that the manual pages advise."""
    drawn = drawn_from(
        f"indexed = hash:$config_directory/\nvirtual_alias_maps = {path}\n{LOGGED}",
        __etc__postfix__virtual="x y\n",
    )

    (table,) = drawn.tables
    assert table.text == "x y\n"
    assert drawn.settings["virtual_alias_maps"] == table.place
    assert "indexed" not in drawn.settings


SUBMISSION = (
    "submission inet n - n - - smtpd\n"
    "  -o { smtpd_relay_restrictions = permit_sasl_authenticated, reject }\n"
)


@pytest.mark.parametrize(
    ("row", "port"),
    [(SUBMISSION, 587), ("", 25)],
)  # fmt: skip
def test_a_client_that_logged_in_is_permitted_where_the_login_counted(row: str, port: int) -> None:
    """There is no SASL server; the mail goes to the service that took it, if there is one."""
    drawn = drawn_from(f"biff = no\n{row}{SUBMITTED}{LOGGED}")

    let_through = "check_client_access inline:{198.18.0.30=permit}"
    assert let_through in drawn.settings["smtpd_relay_restrictions"]
    assert [dict(service.options) for service in drawn.rows] == [
        {"smtpd_relay_restrictions": f"{let_through}, reject"}
    ] * bool(row)
    assert drawn.port == port


def test_a_transport_of_the_reporters_own_has_its_row() -> None:
    """Without its row there is no such service."""
    text = f"default_transport = slow\n{LOGGED}"

    assert drawn_from(f"slow unix - - n - 1 smtp\n{text}").settings["default_transport"] == "slow"
    assert "default_transport" not in drawn_from(text).settings


def test_the_network_of_the_client_becomes_the_labs_client() -> None:
    """So a trusted client stays trusted."""
    text = "mynetworks = 127.0.0.0/8 10.2.0.0/16\n" + (
        REPORTS / "relay-access-denied.txt"
    ).read_text().replace("mynetworks =", "was =")

    drawn = plan.make(read(text), SCENE, tables={})

    assert drawn.settings["mynetworks"] == "127.0.0.0/8 198.18.0.30/32"


def test_what_the_lab_lacks_is_left_out_with_a_note() -> None:
    """Policy services, blocklists, certificates, Milters, SASL."""
    drawn = planned("relay-access-denied")

    assert drawn.settings["smtpd_recipient_restrictions"] == (
        "permit_mynetworks, reject_unauth_destination"
    )
    assert "smtpd_tls_cert_file" not in drawn.settings
    assert [line for line in drawn.left_out if "zen.rbl.example" in line]


def test_commands_are_not_run_unless_allowed() -> None:
    """Neither in master.cf nor in aliases."""
    wary, bold = (planned("greylisted", allow_commands=may) for may in (False, True))
    aliases = {"hash:/etc/aliases": 'x: "|/bin/false", bob\nlist: alice,\n  bob\n'}
    made = plan.make(reported("greylisted"), SCENE, tables=aliases)

    assert not [row for row in wary.rows if row.program == "spawn"]
    assert [row for row in bold.rows if row.program == "spawn"]
    assert made.aliases == {"list": "alice, bob"}


ALIASES = ("|RUN", '"|RUN"', '"\\|RUN"', "bob, (so)|RUN", "bob,\n  |RUN")


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_no_way_to_run_a_command_gets_into_a_plan(way: str) -> None:
    """Rows are parsed as master(8) and getopt(3) parse them."""
    drawn = drawn_from(f"biff = no\n{way}{LOGGED}")

    assert drawn.settings.keys() == {"biff", "allow_mail_to_commands"}
    assert [service.row for service in drawn.rows] in ([], ["local unix - n n - - local"])
    assert [line for line in drawn.left_out if "--allow-commands" in line]


@pytest.mark.parametrize("to", ALIASES)
def test_no_alias_that_runs_a_command_gets_into_a_plan(to: str) -> None:
    """In any quotes (aliases(5))."""
    drawn = drawn_from(f"alias_maps = hash:/a\n{LOGGED}", __a=f"x: {to}\nlist: alice\n")

    assert drawn.aliases == {"list": "alice"}


@given(
    st.lists(
        st.sampled_from([*"{}=| ", "-o", "-v", "argv=", "pipe", "local", "./", "mailbox_command",
                         "/bin/sh", "smtpd_milters", "x_y", "-D"])
    ).map("".join)
)  # fmt: skip
def test_no_row_runs_a_command(arguments: str) -> None:
    """No program except Postfix's own, and no word except known options."""
    try:
        drawn = drawn_from(f"biff = no\nx unix - - n - - local {arguments}\n{LOGGED}")
    except BadInput:
        return
    for service in drawn.rows:
        again = services.read(service.row)
        assert not again.runs_a_command
        assert not again.others
        assert not [
            name for name, value in again.options
            if value and absent.why_not(name, value, allow_commands=False)
        ]  # fmt: skip


WORDS = (
    *"\n =$:/{}|,@[]-", "biff = ", "alias_maps = ", "relayhost = ", "mynetworks = ", "x = ", "$x",
    "hash:", "${config_directory}", " inet n - - - - x", " -o ", "permit_sasl_authenticated",
    "10.0.0.0/8", "myhostname = ", "mydomain = ", "default_transport = ", "a.example", LOGGED,
    SUBMITTED,
)  # fmt: skip


@given(st.text() | st.lists(st.sampled_from(WORDS), max_size=30).map("".join), st.booleans())
def test_any_report_has_a_plan(text: str, bold: bool) -> None:  # noqa: FBT001  # drawn
    """Any report that can be parsed has a plan; tables may contain anything."""
    try:
        found = read(text)
    except BadInput:
        return
    drawn = plan.make(
        found, SCENE, tables={"/a": text}, recipients=["x@a.example"], allow_commands=bold
    )

    assert len(drawn.recipients) == 1
    assert ("allow_mail_to_commands" in drawn.settings) >= (not bold)


def test_tables_are_given_or_empty() -> None:
    """A database that is not available becomes a file; an unnamed table has a note."""
    empty = planned("unknown-virtual-user")
    given = {"/etc/postfix/mysql-virtual.cf": "sales@shop.example sales/\n", "/x": ""}
    full = plan.make(reported("unknown-virtual-user"), SCENE, tables=given)

    assert [(table.kind, table.text) for table in empty.tables] == [("texthash", "")]
    assert [line for line in empty.left_out if "made empty" in line]
    assert full.tables[0].text == "sales@shop.example sales/\n"
    assert "table /x: no setting names it" in full.left_out


@pytest.mark.parametrize(
    ("reply", "answer"),
    [
        ("host a[1.2.3.4] said: 450 4.7.1 not now (in reply to RCPT TO command)",
         Answer("RCPT", "450 4.7.1 not now")),
        ("host a[1.2.3.4] said: 550 no (in reply to end of DATA command)",
         Answer("end of data", "550 no")),
        ("host a[1.2.3.4] refused to talk to me: 554 go away", Answer("greeting", "554 go away")),
        ("connect to a[1.2.3.4]:25: Connection refused", Answer(absent="refused")),
        ("connect to a[1.2.3.4]:25: Connection timed out", Answer(absent="silent")),
        ("delivered to mailbox", None),
    ],
)  # fmt: skip
def test_another_servers_reply_is_known_from_the_log(reply: str, answer: Answer | None) -> None:
    """The stage and the text, or the way in which the server was absent."""
    assert answers.answered(reply) == answer


@pytest.mark.parametrize(
    ("answer", "is_played"),
    [
        (Answer("MAIL", "530 5.7.0 Must issue a STARTTLS command first"), False),
        (Answer("RCPT", "550 5.1.1 <a@b.example>: no such user here"), False),
        (Answer("RCPT", "450 4.7.1 come back later"), True),
        (Answer("greeting", "554 5.7.1 Relay access denied"), True),
        (Answer(absent="silent"), False),
    ],
)
def test_a_reply_is_played_only_if_the_lab_has_no_reason_for_it(
    answer: Answer,
    is_played: bool,  # noqa: FBT001  # a value of the test's table
) -> None:
    """A reason is the server's own configuration; absence is no reply."""
    assert answer.is_played == is_played


def test_a_sender_without_a_domain_stays_if_the_server_refuses_it_for_that() -> None:
    """The lab's name of the host would be a domain."""
    drawn = drawn_from(
        "myhostname = box\nmydestination = box\n"
        "Jan  1 00:00:00 box postfix/pickup[1]: ABCDEF1: uid=1000 from=<me>\n"
        "Jan  1 00:00:00 box postfix/qmgr[1]: ABCDEF1: from=<me@box>, size=1, nrcpt=1 (active)\n"
        "Jan  1 00:00:00 box postfix/smtp[1]: ABCDEF1: to=<a@b.example>, relay=b[192.0.2.1]:25,"
        " delay=1, dsn=5.5.2, status=bounced (host b[192.0.2.1] said: 504 5.5.2 <me@box>: Sender"
        " address rejected: need fully-qualified address (in reply to MAIL FROM command))\n"
    )

    assert (drawn.sender, drawn.settings["myorigin"]) == ("me", "box")
    assert drawn.answer
    assert drawn.answer.settings == {
        "smtpd_sender_restrictions": "reject_non_fqdn_sender",
        "smtpd_delay_reject": "no",
    }


@pytest.mark.parametrize(
    ("reply", "users"),
    [
        ("host b[192.0.2.1] said: 450 4.7.1 not now (in reply to RCPT TO command)", ["a"]),
        ("Cannot start TLS: handshake failure", ["a"]),
        ("host b[192.0.2.1] said: 550 5.1.1 who? (in reply to RCPT TO command)", []),
        ("host b[192.0.2.1] said: 550 No such user (in reply to RCPT TO command)", []),
    ],
)
def test_a_recipient_elsewhere_exists_unless_the_server_says_no(
    reply: str, users: list[str]
) -> None:
    """Otherwise every cure would end in an unknown user of the lab's own."""
    drawn = drawn_from(
        "Jan  1 00:00:00 h postfix/smtp[1]: ABCDEF1: to=<a@b.example>, relay=b[192.0.2.1]:25,"
        f" delay=1, dsn=5.0.0, status=bounced ({reply})\n"
    )

    assert drawn.remote_users == users


QUEUED = (
    "Jan  1 00:00:00 h postfix/qmgr[1]: ABCDEF1: from=<x@h.example>, size=1, nrcpt=1 (active)\n"
    "Jan  1 00:00:00 h postfix/{program}[1]: {id}to=<a@b.example>, relay=none, delay=1,"
    " dsn={dsn}, status=deferred ({why})\n"
)


def test_a_filter_that_does_not_listen_is_the_report_and_stays() -> None:
    """Its address is the host itself, so the lab's host refuses the connection as well."""
    refused = QUEUED.format(
        program="smtp", id="ABCDEF1: ", dsn="4.4.1",
        why="connect to 127.0.0.1[127.0.0.1]:10024: Connection refused",
    )  # fmt: skip
    drawn = drawn_from(f"content_filter = amavis:[127.0.0.1]:10024\n{refused}")

    assert drawn.settings["content_filter"] == "amavis:[127.0.0.1]:10024"
    assert [row.row for row in drawn.rows] == ["amavis unix - - n - - smtp"]
    assert drawn.answer is None
    assert (
        "content_filter" not in drawn_from(f"content_filter = x:[127.0.0.1]:99\n{refused}").settings
    )


def test_a_transport_that_the_log_misses_is_missing_in_the_lab() -> None:
    """Not left out, which would cure it."""
    gone = (
        "Jan  1 00:00:00 h postfix/qmgr[1]: warning: connect to transport private/scan: No such"
        " file or directory\n"
    ) + QUEUED.format(
        program="error", id="ABCDEF1: ", dsn="4.3.0", why="mail transport unavailable"
    )
    drawn = drawn_from(f"content_filter = scan:127.0.0.1:10024\ndefault_transport = scan\n{gone}")

    assert drawn.settings["content_filter"] == "scan:127.0.0.1:10024"
    assert drawn.settings["default_transport"] == "scan"
    assert drawn.rows == []


def test_mail_of_the_host_itself_is_trusted() -> None:
    """Unless the report sets mynetworks, where the network of the host becomes the client's."""
    from_itself = (
        "Jan  1 00:00:00 h postfix/smtpd[1]: ABCDEF1: client=localhost[127.0.0.1]\n" + LOGGED
    )

    assert drawn_from(f"biff = no\n{from_itself}").settings["mynetworks"] == (
        "127.0.0.0/8 198.18.0.30/32"
    )


def test_a_network_in_brackets_becomes_the_labs_client() -> None:
    """IPv6 networks have brackets in main.cf (postconf(5) mynetworks)."""
    client = "Jan  1 00:00:00 h postfix/smtpd[1]: ABCDEF1: client=x[2001:db8:1:2::13]\n" + LOGGED
    drawn = drawn_from(f"mynetworks = 127.0.0.0/8 [2001:db8:1:2::]/64\n{client}")

    assert drawn.settings["mynetworks"] == "127.0.0.0/8 198.18.0.30/32"


def test_the_origin_of_local_mail_is_the_host() -> None:
    """Not the other server's domain, although no setting names it."""
    picked = "Jan  1 00:00:00 box postfix/pickup[1]: ABCDEF1: uid=1000 from=<bob>\n"
    drawn = drawn_from("biff = no\n" + picked + LOGGED.replace("bob@example.net", "bob@box"))

    assert drawn.sender == "bob@mail.example.com"
