"""What a failed test leaves on disk, so that nobody has to run it again to see why."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import asdict
from pathlib import Path

from maillab.errors import MaillabError
from maillab.history import History
from maillab.journeys import Journeys
from maillab.lab import Lab
from maillab.postfix import MailHost
from maillab.verdict import Verdict


def folder_name(test: str) -> str:
    """A test's id as the name of a folder."""
    return re.sub(r"[^\w.=-]+", "-", test.removesuffix(".py")).strip("-")[:150]


def write(folder: Path, lab: Lab, history: History, verdict: Verdict, reason: str) -> None:
    """Leave logs, configurations, queues, the history and the journeys in a folder.

    ``reason`` is why the test failed. What a broken host cannot give any more is
    replaced by a line that says so.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    journeys = Journeys(history)
    texts = {
        "reason.txt": reason,
        "journeys.txt": "\n\n".join(journeys.of(one).text() for one in history.submissions),
        "ledger.txt": verdict.text(),
        "faults.txt": "\n".join(
            f"{witness.fault} on {witness.host}: {witness.count} {witness.source}"
            for witness in lab.record.witnesses
        ),
        "queues.txt": "\n".join(
            f"{entry.host}\t{entry.queue}\t{entry.queue_id}\t{entry.message_id}"
            for entry in history.queued or ()
        ),
        "history.json": json.dumps(
            {
                "topology": lab.topology.name,
                "postfix": lab.version,
                "net": lab.project.net,
                "events": [
                    {"kind": type(event).__name__, **asdict(event)} for event in history.events
                ],
                "submissions": [asdict(one) for one in history.submissions],
                "stored": [asdict(copy) for copy in history.stored or ()],
            },
            default=lambda value: value.decode("latin-1"),
            indent=1,
        ),
    }
    for name, text in texts.items():
        (folder / name).write_text(text + "\n")
    for host in lab.mail_hosts:
        _write_host(folder / host.name, host, lab.stream.log(host.name))


def write_captures(folder: Path, lab: Lab) -> None:
    """Add each host's packets, for tcpdump -r or Wireshark."""
    for name, content in lab.captured().items():
        (folder / f"{name}.pcap").write_bytes(content)


def _write_host(folder: Path, host: MailHost, log: list[str]) -> None:
    folder.mkdir()
    (folder / "mail.log").write_text("".join(f"{line}\n" for line in log))
    for path in host.configuration:
        try:
            text = host.read(path) or "no such file\n"
        except MaillabError as error:
            text = f"not to be had any more: {error}\n"
        (folder / Path(path).name).write_text(text)
    if host.mta != "Postfix":
        return
    try:
        text = host.run("postconf", "-n", check=False).stdout
    except MaillabError as error:
        text = f"not to be had any more: {error}\n"
    (folder / "postconf-n").write_text(text)
