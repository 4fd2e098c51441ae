"""The steps of a cure are recorded as the scenario takes them."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any

import pytest

from maillab.engine.channel import Answer, Channel
from maillab.hosts.postfix import PostfixHost
from maillab.hosts.withheld import WithheldChannel
from maillab.scenario.advice import Advice
from maillab.scenario.state import ScenarioState
from maillab.scenario.stream import Stream
from maillab.site.topology import Role


class Postconf(Channel):
    """A channel whose container does nothing; its postconf(1) prints a table type."""

    def __init__(self) -> None:
        super().__init__("", "mail", ("machine",))
        self._idle = WithheldChannel(self)

    def begin(self, op: str, **arguments: Any) -> Answer:
        """Return the operation's empty answer, but the output of postconf(1)."""
        if op == "run" and arguments["argv"][0] == "postconf":
            future: Future[dict[str, Any]] = Future()
            future.set_result({"ok": {"status": 0, "stdout": "hash\n", "stderr": ""}})
            return Answer(self.name, op, future)
        return self._idle.begin(op, **arguments)


@pytest.fixture
def mail() -> PostfixHost:
    """Return a host without a container."""
    channel = Postconf()
    role = Role("mail", "mail.example.com", (10,), "postfix")
    return PostfixHost(role, "198.18.0", channel, channel, ScenarioState(Stream(), {}))


def steps(host: PostfixHost) -> list[tuple[str, str]]:
    return [(step.place, step.text) for step in host.scenario.advice]


def test_a_cure_is_recorded_in_the_words_of_an_administrator(mail: PostfixHost) -> None:
    """Settings, files and commands; not how the harness checks a table."""
    cure = mail.cure
    cure.configure(relayhost="[192.0.2.1]", transport_maps=cure.table("t", {"a": "b:"}, "hash"))
    cure.service("smtp inet n - n - 1 smtpd")
    cure.aliases({"root": "alice"})
    cure.jail.copy("/etc/resolv.conf")
    cure.run("postsuper", "-d", "ALL", "two words")
    cure.run("sh", "-c", "mailq | tail -n 1")
    cure.user("carol")
    cure.reload()

    assert steps(mail) == [
        ("/etc/postfix/t", "a\tb:\n"),
        ("", "postmap hash:/etc/postfix/t"),
        ("main.cf", "relayhost = [192.0.2.1]\ntransport_maps = hash:/etc/postfix/t"),
        ("master.cf", "smtp inet n - n - 1 smtpd"),
        ("/etc/aliases", "postmaster: root\nroot: alice\n"),
        ("", "newaliases"),
        ("", "cp -pL --parents /etc/resolv.conf /var/spool/postfix"),
        ("", "postsuper -d ALL 'two words'"),
        ("", "mailq | tail -n 1"),
        ("", "useradd --create-home carol"),
        ("", "postfix reload"),
    ]
    assert {step.host for step in mail.scenario.advice} == {"mail"}


def test_what_is_no_cure_is_not_recorded(mail: PostfixHost) -> None:
    """Neither a setting of the scene nor a mistake is a step of the cure."""
    mail.configure(relayhost="")
    mail.misconfigure(relayhost="x")
    mail.mistake.run("true")

    assert mail.scenario.advice == []


def test_a_cure_that_is_withheld_is_not_recorded(mail: PostfixHost) -> None:
    """The step is not taken, either."""
    mail.scenario.withhold = "cures"

    mail.cure.configure(relayhost="x")
    assert mail.cure.words("-v") == ()

    assert mail.scenario.advice == []
    assert mail.scenario.left_out == 2


def test_words_of_a_command_line_are_recorded_as_options(mail: PostfixHost) -> None:
    assert mail.cure.words("-N", "success") == ("-N", "success")

    assert mail.scenario.advice == [Advice("mail", "options", "-N success")]


def test_a_new_scenario_has_no_advice(mail: PostfixHost) -> None:
    mail.cure.configure(relayhost="x")

    mail.scenario.begin()

    assert mail.scenario.advice == []
