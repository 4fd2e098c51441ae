"""Faults by name and text, as on the command line and in the documentation."""

from __future__ import annotations

import contextlib
import json
import math

import hypothesis
import pytest
from hypothesis import strategies as st

from maillab.cli import main
from maillab.errors import BadInput, UnknownName
from maillab.faults import (
    REGISTRY,
    DnsDrop,
    Greeting,
    MtuBlackHole,
    Netem,
    NoRoute,
    Partition,
    Refused,
    ResetInSession,
    SilentDrop,
    SmallMtu,
    SmtpStage,
)
from maillab.faults.settings import Setting, build, settings, summary
from maillab.hosts.host import Fault
from maillab.lab.clock import Clock


@pytest.mark.parametrize("name", sorted(REGISTRY))
def test_every_fault_has_a_summary_and_its_settings(name: str) -> None:
    """The sentence is from the docstring, the settings from the fields."""
    fault = REGISTRY[name]

    assert fault.__name__ == name
    assert summary(fault).endswith(".")
    assert all(setting.form for setting in settings(fault))


def test_settings_have_their_form_and_default() -> None:
    """The settings are in the fault's order."""
    by_name = {setting.name: setting for setting in settings(SmtpStage)}

    stages = "connect|greeting|EHLO|STARTTLS|AUTH|MAIL|RCPT|DATA|end of data|QUIT"
    assert by_name["stage"].form == stages
    assert by_name["stage"].default is None
    assert by_name["stored"] == Setting("stored", "yes|no", "False")
    assert by_name["sessions_max"].form == "number"


@pytest.mark.parametrize(
    ("default", "typed"),
    [
        ("False", "no"),
        ("True", "yes"),
        ("0.0", "0"),
        ("0.5", "0.5"),
        ("", "none"),
        ("None", "none"),
    ],
)
def test_a_default_is_shown_as_it_is_typed(default: str, typed: str) -> None:
    """A default is never shown as a Python literal."""
    assert Setting("x", "text", default).usual == typed


def test_text_becomes_a_fault() -> None:
    """Numbers, words, yes and no are parsed; a host's name becomes its address."""
    built = build(Netem, {"delay_s": "0.5", "seed": "7", "peer": "far"}, {"far": "198.18.0.9"})

    assert built == Netem(delay_s=0.5, seed=7, peer="198.18.0.9")
    assert build(Greeting, {"reply": "421 busy"}) == Greeting("421 busy")
    assert build(SmtpStage, {"stage": "end of data", "then": "close", "stored": "yes"}).stored
    assert build(SmtpStage, {"stage": "greeting", "reply": "421 x", "sessions_max": "3"}) == (
        SmtpStage("greeting", reply="421 x", sessions_max=3)
    )


@pytest.mark.parametrize(
    ("fault", "given", "complaint"),
    [
        (Netem, {"delay_s": "soon"}, "Netem: delay_s: must be a number, not 'soon'"),
        (Netem, {"seed": "1.5", "delay_s": "1"}, "Netem: seed: must be a number, not '1.5'"),
        (SmtpStage, {"stage": "DATA", "stored": "maybe"}, "stored: must be yes or no, not 'maybe'"),
        (MtuBlackHole, {}, "MtuBlackHole needs peer=…"),
        (MtuBlackHole, {"peer": "198.18.0.1", "mtu_bytes": "10"}, "mtu_bytes must be at least 552"),
        (SmtpStage, {"stage": "HELP", "reply": "500 no"}, "unknown stage 'HELP'"),
    ],
)
def test_invalid_settings_are_refused(fault: type, given: dict[str, str], complaint: str) -> None:
    """The value cannot be parsed, or is invalid."""
    with pytest.raises(BadInput, match=complaint.replace(".", r"\.")):
        build(fault, given)


def test_an_unknown_setting_comes_with_the_known_ones() -> None:
    """The error lists the known settings."""
    with pytest.raises(
        UnknownName, match=r"unknown setting 'rate' of DnsDrop \(choose from name, "
    ):
        build(DnsDrop, {"rate": "1"})


def test_faults_are_listed_and_explained(capsys: pytest.CaptureFixture[str]) -> None:
    """The list has a line for each; one fault shows its docstring; --json is for programs."""
    assert main(["fault"]) == 0
    text = capsys.readouterr().out
    assert len(text.splitlines()) == len(REGISTRY)
    assert "`" not in text
    assert main(["fault", "MtuBlackHole"]) == 0
    text = capsys.readouterr().out
    assert "RFC 2923 section 2.1" in text
    assert "peer=       text    required" in text
    assert "mtu_bytes=  number  default: 576" in text
    assert "router.let_icmp_through(), router.clamp_mss()" in text
    assert main(["fault", "--json"]) == 0
    assert {row["name"] for row in json.loads(capsys.readouterr().out)} == set(REGISTRY)
    assert main(["fault", "Greeting", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == [
        {"name": "reply", "form": "text", "default": None}
    ]


@pytest.mark.parametrize(
    ("argv", "complaint"),
    [
        (["fault", "Fire"], "unknown fault 'Fire' (choose from BlocklistError"),
        (["fault", "Greeting", "mail", "421"], "a setting must be NAME=VALUE, not '421'"),
        (["warp", "-4h"], "maillab warp"),
        (["warp", "+4 weeks"], "STEP must be a time such as +4h, +5d or +1h30m, not '+4 weeks'"),
        (["warp", "+9999999999999d"], "'+9999999999999d' is too far"),
        (["warp", f"+{'9' * 5000}d"], "too far"),
    ],
)
def test_bad_words_are_refused(
    argv: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The error comes before any lab is looked up."""
    try:
        status: int | str | None = main(argv)
    except SystemExit as end:
        status = end.code

    assert status == 2
    assert complaint in capsys.readouterr().err


NUMBERS = st.sampled_from(
    ["0", "-1", "1", "0.5", "nan", "inf", "-inf", "1e999", "9" * 400, "9" * 5000, "٣", "1_0", "+1"]
)
WORDS = st.text(max_size=8) | NUMBERS | st.sampled_from(["yes", "no", "in", "192.0.2.1", "*"])


@pytest.mark.parametrize("name", sorted(REGISTRY))
@hypothesis.settings(deadline=None)
@hypothesis.given(st.data())
def test_any_setting_gives_a_fault_or_bad_input(name: str, data: st.DataObject) -> None:
    """No value on the command line raises another error."""
    kind = REGISTRY[name]
    given = {setting.name: data.draw(WORDS, setting.name) for setting in settings(kind)}
    with contextlib.suppress(BadInput):
        repr(build(kind, given))


@pytest.mark.parametrize(
    ("step", "words"),
    [
        ({"days": 9999999999999}, "at most 3650 days"),
        ({"days": 3651}, "at most 3650 days"),
        ({"hours": math.inf}, "at most 3650 days"),
        ({"hours": math.nan}, "at most 3650 days"),
        ({"days": -9999999999999}, "at most 3650 days"),
        ({"seconds": -1}, "must move forward, not by -1 day, 23:59:59"),
        ({}, "must move forward, not by 0:00:00"),
    ],
)
def test_impossible_steps_of_the_clock_are_refused(step: dict[str, float], words: str) -> None:
    """The error comes before any request to a host."""
    with pytest.raises(BadInput, match=words):
        Clock(list).advance(**step)


@pytest.mark.parametrize(
    ("fault", "given", "words"),
    [
        (SmallMtu, {"peer": "198.18.0.1", "mtu_bytes": 10}, "mtu_bytes must be at least 552"),
        (MtuBlackHole, {"peer": "receiver"}, "must be an IPv4 address"),
        (Partition, {"peer": "::x"}, "must be an address"),
        (SmallMtu, {"peer": "::1"}, "must be an IPv4 address"),
        (SilentDrop, {"over": "ipx"}, r"unknown version 'ipx' \(choose from both, ipv4, ipv6\)"),
        (Refused, {"over": "ipv6", "client": "192.0.2.1"}, "192.0.2.1 is not of ipv6"),
        (NoRoute, {"over": "both"}, r"unknown version 'both' \(choose from ipv4, ipv6\)"),
        (Partition, {"direction": "up"}, r"unknown direction 'up' \(choose from both, in, out\)"),
        (Refused, {"port": 0}, "1 to 65535"),
        (Refused, {"every": 0}, "every must be 1 to 100000, not 0"),
        (SilentDrop, {"after": -1}, "after must be 0 to 100000, not -1"),
        (Netem, {}, "impairs nothing"),
        (Netem, {"loss_percent": 140}, "loss_percent must be 0 to 100, not 140"),
        (Netem, {"delay_s": -1}, "impairs nothing"),
        (Netem, {"delay_s": 0.1, "jitter_s": 0.2}, "at most delay_s"),
        (Netem, {"loss_percent": 1, "reorder_percent": 5}, "needs delay_s"),
        (ResetInSession, {}, "needs bytes_before or packets_before"),
    ],
)
def test_impossible_settings_are_refused(
    fault: type[Fault], given: dict[str, object], words: str
) -> None:
    """The error comes before any host is touched, and says what is allowed."""
    with pytest.raises(BadInput, match=words):
        fault(**given)
