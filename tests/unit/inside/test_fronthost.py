"""The programs inside a front, tested without HAProxy."""

from __future__ import annotations

from pathlib import Path

import pytest

import channel
import fronthost
import frontinit
import running
from bounded import run

ALERT = """\
[NOTICE]   (22) : haproxy version is 3.0.11-1+deb13u5
[ALERT]    (22) : config : parsing [/etc/haproxy/haproxy.cfg:4] : unknown keyword 'mod'
[ALERT]    (22) : config : Fatal errors found in configuration.
"""


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (ALERT, "config : parsing [/etc/haproxy/haproxy.cfg:4] : unknown keyword 'mod'"),
        ("one\ntwo\n", "two"),
        ("", "status 1"),
    ],
)
def test_the_reason_is_the_first_alert(words: str, reason: str) -> None:
    assert frontinit.failure(words, 1) == reason


@pytest.mark.parametrize("options", ["", "send-proxy-v2", "send-proxy check inter 1s"])
def test_each_server_line_has_the_options_and_no_others(options: str) -> None:
    text = "listen smtp\n  bind :25\n  server mail 198.18.0.140:25 send-proxy\n  server b x:1\n"

    changed = fronthost.with_server_options(text, options)

    tail = f" {options}" if options else ""
    servers = f"  server mail 198.18.0.140:25{tail}\n  server b x:1{tail}\n"
    assert changed == f"listen smtp\n  bind :25\n{servers}"


@pytest.mark.parametrize(
    ("asked", "processes", "untouched"),
    [
        ({"mark", "queue_files"}, {7: "haproxy"}, True),
        ({"set_server_options"}, {7: "haproxy"}, False),
        ({"run"}, {7: "haproxy"}, False),
        (set(), {7: "sh"}, False),
    ],
)
def test_a_front_that_nothing_has_changed_goes_on_running(
    monkeypatch: pytest.MonkeyPatch, asked: set[str], processes: dict[int, str], *, untouched: bool
) -> None:
    monkeypatch.setattr(running, "names", lambda: processes)
    monkeypatch.setattr(channel, "asked", asked)

    assert fronthost.untouched() is untouched


def test_a_configuration_that_is_refused_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "haproxy.cfg"
    file.write_text("old")
    monkeypatch.setattr(fronthost, "CONFIGURATION", file)
    monkeypatch.setattr(frontinit, "START", ["sh", "-c", "echo '[ALERT] (7) : bad' >&2; exit 1"])
    monkeypatch.setattr(frontinit, "CHECK", frontinit.START)

    answer = run(fronthost.replace_configuration("new"))

    assert (answer["error"], file.read_text()) == ("bad", "old")
