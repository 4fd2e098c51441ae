"""The answers of the FAQ as its scenarios gave them: log lines and settings.

A passed scenario leaves the steps of its cure and the log lines of its trouble with the
results of its run. ``answers.json`` beside the scenarios has them for the package, where
no engine is needed; "make answers" writes the file from a run's results.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from maillab.errors import BadInput
from maillab.mail.history import History
from maillab.mail.maillog import Complaint, Delivery, Event, HopFailed, Rejected
from maillab.scenario.advice import Advice
from maillab.site import resources
from maillab.suite.results import Contrast, Result, discriminates

ANSWERS = "answers.json"
# Stands for a lab's network in what is recorded (RFC 5737).
NETWORK = "192.0.2"
_LINES_MAX = 12
_WORD = re.compile(r"\w+")
# What differs from run to run.
_VARYING = (
    (re.compile(r"-----BEGIN [A-Z ]+-----.*-----END [A-Z ]+-----\n?", re.DOTALL), "(PEM)\n"),
    (re.compile(r"\b(?:[0-9A-F]{2}:){15,}[0-9A-F]{2}\b"), "FINGERPRINT"),
    (re.compile(r"(?:[A-Za-z0-9+/=]{60,}\n)+[A-Za-z0-9+/=]*\n?"), "(base64)\n"),
    (re.compile(r"\bdelays?=[\d./]+, "), ""),
    # Of Dovecot's LMTP server.
    (re.compile(r"(?<=\))<\d+><[^<>\s]+>(?=: )"), "<PID><SESSION>"),
    (re.compile(r"\b(?:process id|pid|PID:?) \d+"), "PID"),
    (re.compile(r"[0-9a-f]{32}@maillab\.test"), "MESSAGE-ID"),
    (re.compile(r"<[^<>\s]*@maillab\.test>"), "<MESSAGE-ID>"),
    # The folder has the first character of the queue id (hash_queue_names).
    (re.compile(r"/[0-9A-F]/QUEUE-ID\b"), "/?/QUEUE-ID"),
)


@dataclass(frozen=True)
class Answer:
    """The log lines of a scenario's trouble, or the steps of its cure.

    ``discriminates`` is True for a scenario that turned red in a withholding run, False
    for one that did not, and None as long as no such run is known.
    """

    log: tuple[str, ...] = ()
    settings: tuple[Advice, ...] = ()
    discriminates: bool | None = None


def log_of(history: History, net: str) -> list[str]:
    """Return the complaints, refusals and failed attempts of a scenario's log, each once."""
    ids = _queue_ids(history)
    lines: dict[str, None] = {}
    for event in history.events:
        if len(lines) == _LINES_MAX:
            break
        if _is_trouble(event):
            lines[_without_names(_line(event), ids, net)] = None
    return list(lines)


def settings_of(advice: Iterable[Advice], history: History, net: str) -> list[Advice]:
    """Return the steps of a scenario's cure, without the names of one run."""
    ids = _queue_ids(history)
    return [Advice(step.host, step.place, _without_names(step.text, ids, net)) for step in advice]


def shipped() -> dict[str, Answer]:
    """Return the answers of the package's own scenarios, by scenario."""
    return read(resources.scenarios() / ANSWERS)


def read(path: Path) -> dict[str, Answer]:
    """Return the answers of a file; empty if there is no such file. Raise BadInput."""
    if not path.is_file():
        return {}
    try:
        document: dict[str, dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
        return {
            test: Answer(
                tuple(fields.get("log", ())),
                tuple(Advice(*step) for step in fields.get("settings", ())),
                fields.get("discriminates"),
            )
            for test, fields in document.items()
        }
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise BadInput(f"{path}: not a record of answers ({error}); remove it") from error


def write(path: Path, answers: Mapping[str, Answer]) -> None:
    """Write the answers, one scenario a line, so that two changes seldom meet."""
    lines = [
        f"{json.dumps(test)}: {json.dumps(_fields(answer), ensure_ascii=False)}"
        for test, answer in sorted(answers.items())
        if _fields(answer)
    ]
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def of_results(known: Mapping[str, Mapping[str, Result]], version: str) -> dict[str, Answer]:
    """Return the answers that passed scenarios gave on one version."""
    return {
        test: Answer(tuple(ran[version].log), tuple(Advice(*s) for s in ran[version].settings))
        for test, ran in known.items()
        if version in ran and ran[version].outcome == "passed"
    }


def renewed(known: Mapping[str, Answer], fresh: Mapping[str, Answer]) -> dict[str, Answer]:
    """Return the known answers with what a later run showed; it does not show contrasts."""
    kept = {test: known[test].discriminates for test in fresh if test in known}
    return {
        **known,
        **{test: replace(new, discriminates=kept.get(test)) for test, new in fresh.items()},
    }


def with_contrasts(
    known: Mapping[str, Answer], contrasts: Mapping[str, Mapping[str, Iterable[Contrast]]]
) -> dict[str, Answer]:
    """Return the answers with what withholding runs found out about their scenarios."""
    found = {
        test: replace(known.get(test, Answer()), discriminates=verdict)
        for test, ends in contrasts.items()
        # What these runs could not decide, earlier ones may have.
        if (verdict := discriminates(ends)) is not None
    }
    return {**known, **found}


def only_in_trouble(trouble: Sequence[Answer], cured: Sequence[Answer]) -> list[str]:
    """Return the log lines that symptoms have and no cure has, or all if none is left."""
    fine = {line for answer in cured for line in answer.log}
    lines = list(dict.fromkeys(line for answer in trouble for line in answer.log))
    return [line for line in lines if line not in fine] or lines


def _fields(answer: Answer) -> dict[str, Any]:
    fields = asdict(answer) | {
        "settings": [[step.host, step.place, step.text] for step in answer.settings]
    }
    return {name: value for name, value in fields.items() if value or value is False}


def _is_trouble(event: Event) -> bool:
    if isinstance(event, Delivery):
        return event.status not in ("sent", "deliverable")
    return isinstance(event, Complaint | HopFailed | Rejected)


def _line(event: Event) -> str:
    level = f"{event.level}: " if isinstance(event, Complaint) else ""
    return f"{event.program}: {level}{event.text}"


def _queue_ids(history: History) -> set[str]:
    ids = {event.queue_id for event in history.events}
    ids |= {event.next_queue_id for event in history.events if isinstance(event, Delivery)}
    return ids - {""}


def _without_names(text: str, ids: AbstractSet[str], net: str) -> str:
    """Replace what differs from run to run: addresses, queue ids, times and the like."""
    text = text.replace(f"{net}.", f"{NETWORK}.")
    text = _WORD.sub(lambda word: "QUEUE-ID" if word[0] in ids else word[0], text)
    for pattern, instead in _VARYING:
        text = pattern.sub(instead, text)
    return text
