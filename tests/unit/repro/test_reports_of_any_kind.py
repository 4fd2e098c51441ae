"""The time to read a report is proportional to its length, even if strangers wrote it."""

from __future__ import annotations

from typing import cast

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from costs import grows_like_its_length
from maillab.errors import BadInput, UnknownName
from maillab.hosts.postfix import PostfixHost
from maillab.repro import absent, plan, play, report, services, tables
from maillab.repro.answers import answered
from maillab.repro.names import NEXT_HOP, Scene, Spot

SCENE = Scene(
    Spot("mail", "mail.example.com", "198.18.0.10"),
    Spot("client", "client.example.net", "198.18.0.30"),
    Spot("remote", "remote.example.net", "198.18.0.20"),
)
LOG = "Nov 23 08:10:11 mx postfix/smtp[1]: ABCDEF12: "
# Texts that the patterns look for, and texts that may be between them.
PARTS = [
    *("postfix ", "version ", "topology\n", "> ", "# ", "```", "mail_version = 3.7", "\n", "\n "),
    *("a = ", "x_y = ", "alias_maps = ", "mynetworks = ", "relayhost = ", "smtp_tls_", "key", "CA"),
    *("cert", "_path", "_domains = ", "$a", "${a}", "$config_directory/", "hash:", "proxy:", "/"),
    *("check_policy_service ", "reject_rhsbl_", "reject_rbl_client ", "{", "}", "{ ", " }", "-o "),
    *("argv=", "smtp inet n - n - - smtpd", "\tunix - - n - - pipe ", LOG, "to=<", "@b.example"),
    *(">, relay=c[1.2.3.4]:25, delay=1, dsn=5.0.0, status=bounced (", "host a said: 450 ", ")"),
    *(" (in reply to ", "end of DATA", " command", "host a refused to talk to me: 554 ", "helo=<"),
    *("connect from ", "[a-", "[a.", "smtp:[", "]", ":25", "example.com", "1.2.3.4", "::1", ","),
    *(
        "-Queue ID-",
        "ABCDEF12 1 Mon Nov 23 08:10:11 a@b\n(",
        "Final-Recipient: rfc822; a",
        "<a@b>: host ",
    ),
    *(
        "RCPT TO:<a@b>\n",
        "554 5.7.1 <a@b>: ",
        "/etc/postfix/virtual",
        " has ",
        "cat ",
        "'",
        "+",
        "|",
    ),
    *("postmap -q a hash:/etc/x", "postconf -e ", "POSTFIX_", '{"message": "', "mail | ", " " * 30),
    *(
        "postfix/smtp[1]: ",
        "12:34:56",
        "Nov 23",
        "<mailto:",
        " at ",
        "`",
        "Ubuntu 22.04",
        "\u001b[",
    ),
    *(" ", "\t", "a", "A", "-", "_", ".", "(", "=", "é", "removed", "|"),
]

texts = st.lists(st.sampled_from(PARTS), max_size=6).map("".join)
pieces = st.lists(st.sampled_from(PARTS), min_size=1, max_size=4).map("".join)


def read(text: str) -> None:
    """Do everything that happens before an engine is needed."""
    try:
        reported = report.read(text)
        plan.make(reported, SCENE, tables={"/etc/x": text}, recipients=["a@b.example"])
    except BadInput:
        pass


def ask(text: str) -> None:
    """Evaluate every property of one value."""
    answered(text)
    list(tables.found_in(text))
    tables.expanded(text, {"a": text})
    tables.is_a_place(text, {"a": text})
    absent.why_not(text, text, allow_commands=False)
    absent.without_questions(text)
    NEXT_HOP.sub("", text)
    services.can_be_written("name", text)


@given(texts, pieces, texts)
@example("mail_version = 3.7\n" + LOG + "client=", "a[", "")
@example("topology\na", " ", "b")
@example(LOG + "helo=<", "helo=<", "\n")
@example(LOG + "to=<a@b>, relay=(", "a\n", "")
@example("x_y = 1", "\n a", "")
@example("smtp inet n - n - - smtpd", " a", "")
@example("a = " + "b" * 200 + "\nx_y = ", "$a", "")
@settings(deadline=None, max_examples=150, derandomize=True)
def test_a_report_takes_time_in_proportion_to_its_length(
    before: str, piece: str, after: str
) -> None:
    assert grows_like_its_length(read, lambda n: f"{before}{piece * n}{after}")


@given(texts, pieces, texts)
@example("", "hash:", "/")
@example("", "reject_rhsbl_", "")
@example("", "check_policy_service {", "")
@example("smtp_tls_", "cert", "-")
@example("host a said: 450 ", " (in reply to ", "")
@example("", "$a", "")
@settings(deadline=None, max_examples=150, derandomize=True)
def test_a_value_takes_time_in_proportion_to_its_length(
    before: str, piece: str, after: str
) -> None:
    assert grows_like_its_length(ask, lambda n: f"{before}{piece * n}{after}")


@pytest.mark.parametrize(
    "line",
    [
        "x{n}_y = 1",
        "x{n}_y = $x{n}_y $x{n}",
        "x{n}_maps = hash:/etc/x",
        "s{n} inet n - n - - smtpd -o x_y=1",
        LOG.replace("ABCDEF12", "ABCDEF{n:06X}") + "to=<a@b>, relay=c[1]:25, delay=1, dsn=5.0.0, "
        "status=bounced (host a said: 550 no (in reply to RCPT TO command))",
        LOG + "to=<a{n}@b{n}>, relay=c[1]:25, delay=1, dsn=5.0.0, status=bounced (no)",
    ],
    ids=["settings", "references", "tables", "services", "messages", "recipients"],
)
def test_many_lines_take_time_in_proportion_to_their_number(line: str) -> None:
    """Up to the allowed number of lines."""
    assert grows_like_its_length(
        read, lambda n: "a = b\n" + "".join(line.format(n=k) + "\n" for k in range(n))
    )


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("x = 1\n" * 2_000_000, r"at most 10000000 characters, not 12000000"),
        ("".join(f"x{n}_y = 1\n" for n in range(60_000)), r"at most 5000 settings, not 60000"),
        (
            "a_b = 1\n" + "".join(f"s{n} inet n - n - - smtpd\n" for n in range(300)),
            r"at most 200 rows of master.cf, not 300",
        ),
        (
            "a_b = " + "".join(f"hash:/etc/x{n} " for n in range(300)),
            r"at most 100 tables",
        ),
    ],
    ids=["text", "settings", "services", "tables"],
)
def test_implausible_numbers_are_refused(text: str, complaint: str) -> None:
    """The error comes before anything is done."""
    with pytest.raises(BadInput, match=complaint):
        plan.make(report.read(text), SCENE, tables={}, recipients=["a@b.example"])


def test_more_recipients_than_one_message_has_are_refused() -> None:
    """Each recipient costs commands on a host."""
    with pytest.raises(BadInput, match=r"at most 100 recipients, not 101; name some .* --to"):
        plan.make(report.read("a_b = 1"), SCENE, tables={}, recipients=["a@b"] * 101)


def test_a_table_that_several_settings_name_is_made_once() -> None:
    """Each setting refers to the same table."""
    planned = plan.make(
        report.read("a_maps = hash:/etc/x\nb_maps = hash:/etc/x, hash:/etc/y"),
        SCENE,
        tables={},
        recipients=["a@b"],
    )

    assert planned.settings["a_maps"] == "@TABLE0@"
    assert planned.settings["b_maps"] == "@TABLE0@, @TABLE1@"
    assert len(planned.tables) == 2


class Host:
    """A host whose Postfix has only the named parameters."""

    name, version = "mail", "3.10.5"

    def __init__(self, *known: str) -> None:
        self.known = known
        self.asked: list[dict[str, str]] = []

    def configure(self, **given: str) -> None:
        """Refuse unknown parameters that no other setting uses."""
        self.asked.append(given)
        used = {word for value in given.values() for word in value.split()}
        unknown = [name for name in given if name not in self.known and f"${name}" not in used]
        if unknown:
            raise UnknownName("no such parameter", unknown)


def test_unknown_settings_are_found_all_at_once() -> None:
    """A restart for each would take hours; parameters of the reporter's own stay if used."""
    host = Host("a", "b")
    wanted = {f"x{n}": "1" for n in range(4000)} | {"own": "1", "a": "$own", "b": "2"}
    outcome = play.Outcome()

    play._configure(cast("PostfixHost", host), wanted, outcome)

    assert len(host.asked) == 2
    assert host.asked[-1] == {"own": "1", "a": "$own", "b": "2"}
    assert len(outcome.left_out) == 4000
    assert outcome.left_out[0] == "x0: Postfix 3.10.5 has no such parameter"


def test_settings_that_only_an_unknown_one_used_are_left_out_too() -> None:
    """To a depth that no site has."""
    outcome = play.Outcome()
    host = Host("a")

    play._configure(cast("PostfixHost", host), {"x": "$y", "y": "$z", "z": "1", "a": "1"}, outcome)

    assert host.asked[-1] == {"a": "1"}
    deep = {f"x{n}": f"$x{n + 1}" for n in range(100)}
    with pytest.raises(UnknownName):
        play._configure(cast("PostfixHost", Host()), deep, outcome)
