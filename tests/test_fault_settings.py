"""Faults by name and text, as the command line and the pages about faults have them."""

from __future__ import annotations

import json

import pytest

from maillab.cli import main
from maillab.errors import BadInput, UnknownName
from maillab.faults import (
    REGISTRY,
    DnsDrop,
    Greeting,
    MtuBlackHole,
    Netem,
    Partition,
    Refused,
    ResetInSession,
    SilentDrop,
    SmallMtu,
    SmtpStage,
)
from maillab.faults.settings import Setting, build, settings, summary
from maillab.host import Fault


@pytest.mark.parametrize("name", sorted(REGISTRY))
def test_every_fault_is_told_in_one_sentence_with_its_settings(name: str) -> None:
    """From its own docstring and fields; the registry knows it by its name."""
    fault = REGISTRY[name]

    assert fault.__name__ == name
    assert summary(fault).endswith(".")
    assert all(setting.form for setting in settings(fault))


def test_settings_have_their_form_and_default() -> None:
    """In the fault's order."""
    told = {setting.name: setting for setting in settings(SmtpStage)}

    assert told["stage"].form == "connect|greeting|EHLO|MAIL|RCPT|DATA|end of data|QUIT"
    assert told["stage"].default is None
    assert told["stored"] == Setting("stored", "yes|no", "False")
    assert told["sessions_max"].form == "number"


def test_text_becomes_a_fault() -> None:
    """Numbers, words, yes and no; a host's name becomes its address."""
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
        (Netem, {"delay_s": "soon"}, "Netem: delay_s: 'soon': write a number"),
        (Netem, {"seed": "1.5", "delay_s": "1"}, "Netem: seed: '1.5': write a number"),
        (SmtpStage, {"stage": "DATA", "stored": "maybe"}, "stored: 'maybe': write yes or no"),
        (MtuBlackHole, {}, "MtuBlackHole needs peer=…"),
        (MtuBlackHole, {"peer": "198.18.0.1", "mtu_bytes": "10"}, "mtu_bytes: from 552"),
        (SmtpStage, {"stage": "HELP", "reply": "500 no"}, "SMTP has no such stage"),
    ],
)
def test_what_cannot_be_is_refused(fault: type, given: dict[str, str], complaint: str) -> None:
    """Whether it cannot be read or is impossible."""
    with pytest.raises(BadInput, match=complaint.replace(".", r"\.")):
        build(fault, given)


def test_an_unknown_setting_comes_with_the_known_ones() -> None:
    """As any unknown name."""
    with pytest.raises(UnknownName, match="no setting of DnsDrop named 'rate'; there is: name, "):
        build(DnsDrop, {"rate": "1"})


def test_faults_are_listed_and_explained(capsys: pytest.CaptureFixture[str]) -> None:
    """All by a line, one by its docstring; as JSON for programs."""
    assert main(["fault"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(REGISTRY)
    assert main(["fault", "MtuBlackHole"]) == 0
    text = capsys.readouterr().out
    assert "RFC 2923 section 2.1" in text
    assert "mtu_bytes=  number  default: '576'" in text
    assert main(["fault", "--json"]) == 0
    assert {one["name"] for one in json.loads(capsys.readouterr().out)} == set(REGISTRY)
    assert main(["fault", "Greeting", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == [
        {"name": "reply", "form": "text", "default": None}
    ]


@pytest.mark.parametrize(
    ("argv", "complaint"),
    [
        (["fault", "Fire"], "no fault named 'Fire'; there is: Crashed"),
        (["fault", "Greeting", "mail", "421"], "421: write it as NAME=VALUE"),
        (["warp", "-4h"], "maillab warp"),
        (["warp", "+4 weeks"], "+4 weeks: write how far, as +4h"),
    ],
)
def test_bad_words_are_refused(
    argv: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before any lab is looked for."""
    try:
        status: int | str | None = main(argv)
    except SystemExit as end:
        status = end.code

    assert status == 2
    assert complaint in capsys.readouterr().err


@pytest.mark.parametrize(
    ("fault", "given", "words"),
    [
        (SmallMtu, {"peer": "198.18.0.1", "mtu_bytes": 10}, "mtu_bytes: from 552"),
        (MtuBlackHole, {"peer": "receiver"}, "write an IPv4 address"),
        (Partition, {"peer": "::1"}, "write an IPv4 address"),
        (Partition, {"direction": "up"}, "one of both, in, out"),
        (Refused, {"port": 0}, "1 to 65535"),
        (Refused, {"first": 1, "every": 2}, "one of first, every and after"),
        (SilentDrop, {"after": -1}, "one of first, every and after"),
        (Netem, {}, "impairs nothing"),
        (Netem, {"loss_percent": 140}, "from 0 to 100"),
        (Netem, {"delay_s": -1}, "impairs nothing"),
        (Netem, {"delay_s": 0.1, "jitter_s": 0.2}, "at most delay_s"),
        (Netem, {"loss_percent": 1, "reorder_percent": 5}, "needs delay_s"),
        (ResetInSession, {}, "needs bytes_before or packets_before"),
    ],
)
def test_impossible_settings_are_refused(
    fault: type[Fault], given: dict[str, object], words: str
) -> None:
    """Before anything is touched, with what would work."""
    with pytest.raises(BadInput, match=words):
        fault(**given)
