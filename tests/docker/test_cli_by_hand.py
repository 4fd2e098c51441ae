"""A lab by hand, from ``maillab up`` to ``maillab down``. Needs an engine."""

from __future__ import annotations

import json
import subprocess
import sys

from maillab.engine import compose
from maillab.errors import BadInput
from maillab.lab.lab import attach


def maillab(
    *argv: str, timeout_s: float = 60.0, stdin: str = ""
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "maillab", *argv],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


def test_a_lab_by_hand_from_up_to_down() -> None:
    """Other labs may be up, so every command names this lab."""
    brought_up = maillab("up", "standalone", "--json", timeout_s=300)
    assert brought_up.returncode == 0, brought_up.stderr
    up = json.loads(brought_up.stdout)
    name = up["name"]
    here = ("--lab", name)
    try:
        assert up["postfix"].startswith("3.10.")
        assert [host["name"] for host in up["hosts"]] == ["mail", "remote", "client"]

        listed = {lab["name"]: lab for lab in json.loads(maillab("ps", "--json").stdout)}
        assert listed[name] == {
            "name": name,
            "topology": "standalone",
            "owner": "hand",
            "net": up["net"],
            "running": 6,
            "containers": 6,
            "faults": [],
        }

        route = ("--from-host", "mail", "--to", "joe@example.net", "nobody@example.org")
        done = maillab("send", *route, *here, "--wait", "--json")
        assert done.returncode == 0, done.stderr
        sent = json.loads(done.stdout)
        assert sent["outcome"] == "acknowledged"
        assert "to <nobody@example.org>: bounced 5.4.4" in sent["journey"]

        legs = json.loads(maillab("trace", sent["message_id"], *here, "--json").stdout)
        ways = [(leg["host"], leg["from"] and leg["from"]["how"]) for leg in legs]
        assert ways == [("mail", None), ("remote", "sent"), ("mail", "non-delivery notice")]
        # Another process reads the logs, which have other processes' marks by now.
        text = maillab("trace", legs[1]["queue_id"], *here).stdout
        assert text.splitlines()[0].startswith(f"message {sent['message_id']}, from <bob@")
        assert f"non-delivery notice: mail {legs[2]['queue_id']}" in text

        hold = maillab("shell", "mail", *here, "--", "postconf", "-e", "defer_transports=smtp")
        assert hold.returncode == 0, hold.stderr
        assert maillab("shell", "mail", *here, stdin="postfix reload\nexit 3\n").returncode == 3
        waits = maillab("send", "--from-host", "mail", "--to", "joe@example.net", *here, "--wait")
        assert waits.stdout.rstrip().endswith("waits for the next attempt")
        (entry,) = json.loads(maillab("queue", "mail", *here, "--json").stdout)
        assert (entry["queue"], entry["recipients"]) == ("deferred", ["joe@example.net"])
        route = ("--from-host", "client", "--to", "alice@example.com", "x@example.org")
        refused = maillab("send", *route, *here)
        assert refused.returncode == BadInput.exit_code
        assert refused.stderr.startswith(
            "maillab: client runs no Postfix; add --server, or send from a mail host (choose from "
        )
        sent = json.loads(maillab("send", *route, *here, "--server", "mail", "--json").stdout)
        assert (sent["outcome"], sent["accepted"]) == ("acknowledged", ["alice@example.com"])
        assert [(reply["recipient"], reply["dsn"]) for reply in sent["rejections"]] == [
            ("x@example.org", "4.7.1")
        ]

        break_and_warp(here)

        log = maillab("logs", "all", *here).stdout
        assert f"{entry['queue_id']}: to=<joe@example.net>" in log
        assert_nothing_is_said_when_nobody_reads("logs", "all", "--follow", *here)
    finally:
        gone = maillab("down", name)
    assert (gone.returncode, gone.stdout) == (0, f"removed {name}\n")
    assert name not in {lab["name"] for lab in json.loads(maillab("ps", "--json").stdout)}


def break_and_warp(here: tuple[str, str]) -> None:
    """Apply a fault for one command's duration, then advance the clock by five days."""
    send = ("maillab", "send", "--from-host", "remote", "--to", "alice@example.com", "--wait")
    words = ("fault", "Greeting", "mail", "reply=421 busy", *here)
    broken = maillab(*words, "--", sys.executable, "-m", *send, *here)
    assert broken.returncode == 0, broken.stderr
    assert "refused to talk to me: 421 busy" in broken.stdout
    assert broken.stdout.endswith("on mail: 1 client that the server greeted\n")

    before = json.loads(maillab("warp", "+1s", *here, "--json").stdout)
    after = json.loads(maillab("warp", "+5d", *here, "--json").stdout)
    assert before["mail"][:10] < after["mail"][:10]
    assert json.loads(maillab("queue", "mail", *here, "--json").stdout) == []


def assert_nothing_is_said_when_nobody_reads(*argv: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "maillab", *argv], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout
        assert process.stderr
        process.stdout.close()
        assert process.wait(timeout=30) == 141
        assert process.stderr.read() == b""


def test_a_command_reads_only_new_lines() -> None:
    """A command reads only new log lines, and can still find an earlier message."""
    name = json.loads(maillab("up", "standalone", "--json", timeout_s=300).stdout)["name"]
    here = ("--lab", name)
    try:
        first = json.loads(
            maillab(
                "send", "--from-host", "mail", "--to", "alice", *here, "--wait", "--json"
            ).stdout
        )
        line = "Jan  1 00:00:00 mail postfix/qmgr[1]: ABCDEF12: from=<a@b>, size=1, nrcpt=1 (old)"
        many = f"for n in $(seq 50000); do echo '{line}'; done >>/var/log/mail.log"
        assert maillab("shell", "mail", *here, "--", "bash", "-c", many).returncode == 0

        project = compose.projects()[name]
        lab = attach(project)
        try:
            # Only lines that were logged while the engine started to follow.
            assert lab.stream.position < 10_000
            assert lab.scenario.history().events == ()
            mail = lab.mail.send(to="alice@example.com")
            lab.settle(mail)
            assert mail.delivered_to(lab.mail, mailbox="alice")
            assert len(lab.scenario.history().events) < 1000
            found = lab.history_of(first["message_id"])
            assert 0 < len(found.events) < 100
        finally:
            lab.detach()
    finally:
        maillab("down", name)
