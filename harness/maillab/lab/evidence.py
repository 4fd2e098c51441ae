"""The evidence that a failed test leaves on disk, so that it need not run again."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import asdict
from pathlib import Path

from maillab.engine import container
from maillab.engine.channel import Channel
from maillab.errors import MaillabError
from maillab.hosts.postfix import PostfixHost
from maillab.hosts.serverhost import ServerHost
from maillab.lab.lab import Lab
from maillab.mail.history import History
from maillab.mail.tracing import Journeys
from maillab.mail.verdict import Verdict


def folder_name(test: str) -> str:
    """Return a test's id as the name of a folder."""
    return re.sub(r"[^\w.=-]+", "-", test.removesuffix(".py")).strip("-")[:150]


def write(folder: Path, lab: Lab, history: History, verdict: Verdict, reason: str) -> None:
    """Write logs, configurations, queues, the history and the journeys into a folder.

    ``reason`` is why the test failed. A line that says "unavailable" replaces what a
    broken host cannot deliver.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    journeys = Journeys(history)
    texts = {
        "reason.txt": reason,
        "journeys.txt": "\n\n".join(
            journeys.of(submission).text() for submission in history.submissions
        ),
        "ledger.txt": verdict.text(),
        "faults.txt": "\n".join(witness.sighting for witness in lab.scenario.witnesses),
        "queues.txt": "\n".join(
            f"{entry.host}\t{entry.queue}\t{entry.queue_id}\t{entry.message_id}"
            for entry in history.queued or ()
        ),
        "history.json": json.dumps(
            {
                "topology": lab.topology.name,
                "postfix": lab.requested_version,
                "net": lab.project.net,
                "events": [
                    {"kind": type(event).__name__, **asdict(event)} for event in history.events
                ],
                "submissions": [asdict(submission) for submission in history.submissions],
                "stored": [asdict(copy) for copy in history.stored or ()],
                "instructions": history.instructions,
            },
            default=lambda value: value.decode("latin-1"),
            indent=1,
        ),
    }
    for name, text in texts.items():
        _write_text(folder / name, text + "\n")
    for host in lab.servers:
        _write_host(folder / host.name, host, lab.stream.log(host.name))
        if host.filters is not None:
            _write_text(folder / host.name / "filters.log", _filters_log(host.filters))


def _filters_log(filters: Channel) -> str:
    """Return the log of the container with a host's filters, from its start."""
    try:
        return container.log(filters.container).decode(errors="backslashreplace")
    except MaillabError as error:
        return f"unavailable: {error}\n"


def write_captures(folder: Path, lab: Lab) -> None:
    """Add each host's packets, for tcpdump -r or Wireshark."""
    for name, content in lab.captured().items():
        (folder / f"{name}.pcap").write_bytes(content)


def _write_text(path: Path, text: str) -> None:
    # The text may contain bytes that are not characters.
    path.write_text(text, encoding="utf-8", errors="backslashreplace")


def _write_host(folder: Path, host: ServerHost, log: list[str]) -> None:
    folder.mkdir()
    _write_text(folder / "mail.log", "".join(f"{line}\n" for line in log))
    for path in host.configuration:
        try:
            text = host.read(path) or "no such file\n"
        except MaillabError as error:
            text = f"unavailable: {error}\n"
        _write_text(folder / Path(path).name, text)
    if not isinstance(host, PostfixHost):
        return
    try:
        text = host.run("postconf", "-n", check=False).stdout
    except MaillabError as error:
        text = f"unavailable: {error}\n"
    _write_text(folder / "postconf-n", text)
