"""Log lines in the forms that loggers, containers and web pages give them. Pure.

Each form is a prefix before Postfix's own text: a time stamp, a host, a severity, a
container's name. `read` strips the prefixes by small named readers and returns the lines
in the form of syslog, which `maillab.mail.maillog` parses.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from maillab.mail.maillog import QUEUE_ID

# The host of a line whose prefix names none.
NO_HOST = "-"
# maillab.repro compares no times.
_STAMP = "Jan  1 00:00:00"
_PROGRAMS = (
    "anvil|bounce|cleanup|defer|discard|dnsblog|error|flush|lmtp|local|master|nqmgr|oqmgr|pickup"
    "|pipe|postalias|postdrop|postfix-script|postlog|postmap|postmulti|postqueue|postscreen"
    "|postsuper|proxymap|qmgr|qmqpd|relay|retry|scache|sendmail|showq|smtpd?|spawn|tlsmgr|tlsproxy"
    "|trace|trivial-rewrite|verify|virtual"
)
# "postfix/smtpd[1]:", "postfix-out/smtp[1]:", "postfix/submission/smtpd[1]:", "pipe[1]:".
_TAGGED = rf"(?:[\w.-]++/)++(?:{_PROGRAMS})"
_TAG = re.compile(
    rf"(?<![\w/.-])(?:(?:{_TAGGED}(?:\[(?:\d{{1,9}}|PID)\])?"
    rf"|(?:{_PROGRAMS}|postfix)\[\d{{1,9}}\]):(?=\s|$)"
    # In columns, and in RFC 5424's form.
    rf"|{_TAGGED}(?:\[\d{{1,9}}\](?=[ \t]{{0,20}}[|\t,])|(?= \d{{1,9}} - - )))",
    re.ASCII,
)
_AFTER_TAG = re.compile(r"[ \t]*(?:\d{1,9} - - |[|\t,][|\t, ]*)")
_NAME = r"[\w.-]{1,255}"
_MONTH_DAY = r"[^\W\d_]{3,5}\.? {1,2}\d{1,2}(?: \d{4})?"
_TIME = r"\d{1,2}:\d\d:\d\d(?:[.,]\d{1,9})?"
_ZONE = r"(?: ?(?:Z|[+-]\d\d:?\d\d)| [A-Z]{3,4}(?= ))?"
_DATED = rf"\d{{4}}-\d\d-\d\d[T ]{_TIME}{_ZONE}"
_WEEKDAY = r"(?:[A-Z][a-z]{2},? )?"
_SEVERITY = "info|notice|warn(?:ing)?|err(?:or)?|crit|alert|emerg|debug|panic|fatal"
# What may stand before Postfix's text, by the name of its form; "stamp" and "host" are kept.
_PREFIXES: tuple[tuple[str, re.Pattern[str]], ...] = tuple(
    (name, re.compile(pattern))
    for name, pattern in (
        ("quoting", r"[\s\"'`,]+"),
        ("syslog", rf"\[?{_WEEKDAY}{_MONTH_DAY} {_TIME}\]?(?= |$|\t)"),
        ("RFC 3339", rf"\[?{_WEEKDAY}{_DATED}\]?(?=\W|$)"),
        (
            "dates with numbers",
            rf"\[?\d{{1,4}}[-./]\d{{1,2}}[-./]\d{{1,4}},? {_TIME}(?: [AP]M)?\]?(?=\W|$)",
        ),
        ("time without date", rf"\[?{_TIME}\]?(?= )"),
        ("priority", r"<\d{1,3}>(?:1 )?"),
        (
            "severity column",
            rf"\|? ?<?(?:{_NAME}[.:])?(?i:\[?(?:{_SEVERITY})\]?)>?(?= |$|\t|:)[ \t:]*",
        ),
        ("container's name", r"[\w./-]{1,255} *\|(?= |$|\t)"),
        ("columns", r"\|"),
        ("pod's name", r"\[(?:pod/)?[\w./-]{1,255}\](?= )"),
        ("file's name", r"(?:/[\w./-]{1,255}|[\w-]{1,99}\.log[\w.-]{0,99})(?::\d+)?:(?! )"),
        ("list", r"(?:[-*+•]|\d{1,6}[.:)]?)(?= )"),
        ("outer log", rf"(?:{_NAME} )?[\w./@-]{{1,255}}(?:\[\d{{1,9}}\])?:(?=\s|$)"),
        ("host", r"[\w.@-]{1,255}(?= |$|\t)"),
    )
)
# In pflogsumm's reports a number stands before the host.
_BEFORE_HOSTS = {"syslog", "RFC 3339", "dates with numbers", "time without date", "list",
                 "container's name"}  # fmt: skip
_STAMPS = {"syslog", "RFC 3339", "dates with numbers", "time without date"}
# Forms that need no word in a summary: they are part of others.
_SILENT = {"quoting", "host", "columns"}
_PREFIX_MAX = 300
_PLAIN = re.compile(
    r"(?:[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d"
    r"|\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[\d:.,]*(?:Z|[+-]\d\d:?\d\d))"
    r" ([^\s/:]{1,255}) ([^\s\[:]{1,255}(?:\[\d{1,9}\])?):(?: (.*)|$)",
    re.ASCII,
)
_CLOCK = re.compile(r"\d\d:\d\d:\d\d")
# Postfix's own text where the program is not logged.
_BARE = re.compile(
    rf"(?<![\w-])(?:NOQUEUE|{QUEUE_ID}): (?=to=<|from=<[^>]*>, size=|client=\S+\[|message-id="
    r"|uid=\d+ from=|removed$|(?:milter-|proxy-)?reject: )"
)
_NOTICE = re.compile(
    r"(?:connect to |lost connection with |conversation with )\S+\[|connect from \S+\[|"
    rf"{QUEUE_ID}: "
)
_REJECTS = re.compile(r"(?:milter-|proxy-)?reject: (\S+)")
_RELAY = re.compile(r", relay=([^,]*)")
_RUNS = re.compile(r"[ \t]{2,}")
_AFTER_EQUALS = re.compile(r"(?<=[\w]=) +(?=[<\[])")
_QUEUE_ID = re.compile(QUEUE_ID)
_HIDDEN_ID = re.compile(
    r"(\S{1,30}): (?=to=|from=<[^>]*>, size=|client=|uid=|message-id=|removed$|sender non-"
    r"|(?:milter-|proxy-)?reject: )"
)
# What mail archives, mail programs and Solaris add to a line: what it contains, and its cure.
_REPAIRS: tuple[tuple[str, re.Pattern[str], str], ...] = tuple(
    (name, re.compile(pattern), instead)
    for name, pattern, instead in (
        ("[ID ", r"^\[ID \d{1,9} [\w.]{1,30}\] ", ""),
        ("](mailto:", r"\[([^\[\]\s]{1,320})\]\(mailto:[^()\s]{1,330}\)", r"\1"),
        ("<mailto:", r"<mailto:[^<>\s]{1,330}>", ""),
        ("<http", r"<https?://[^<>\s]{1,330}>", ""),
        (" at ", r"<([\w.+=-]{1,64}) at ([\w.-]{1,255})>", r"<\1@\2>"),
        ("=", r"\b((?:orig_)?to|from)=([^\s<>,;@]{1,64}@[^\s<>,;]{1,255})(?=[,;]? |,|$)",
         r"\1=<\2>"),
    )
)  # fmt: skip
# The longest line that maillab reads of a log.
_JSON_MAX = 32_768
_JSON_FIELD = re.compile(r'"(?:MESSAGE|message|log)":')
# The pager of journalctl cuts lines, and marks the cut.
_CUT = re.compile(r"(?<=[\w.,:;)(-])>$|…$")


@dataclass(frozen=True)
class LogLine:
    """One entry of a log: in syslog's form, and the name of the form that it had.

    ``is_cut`` if a pager cut the line off.
    """

    text: str
    form: str
    is_cut: bool = False


def starts(line: str) -> bool:
    """Return True if a physical line begins a log entry."""
    plain = _PLAIN.match(line)
    if plain:
        return True
    bare = line.lstrip()
    if bare.startswith("{") and _JSON_FIELD.search(bare):
        return any(read(bare))
    if _TAG.search(line) and _has_prefix_only(line):
        return True
    return _BARE.search(line) is not None or _is_columns(line) or _is_stamped(line)


def has_program(line: str) -> bool:
    """Return True if a line names the program that logged it."""
    return _PLAIN.match(line) is not None or _TAG.search(line) is not None


def read(entry: str) -> Iterator[LogLine]:
    """Yield the log lines in an entry, which may have several run together."""
    plain = _PLAIN.match(entry)
    if plain and not _CLOCK.search(plain[3] or ""):
        yield _line(plain[1], plain[2], plain[3] or "", _plain_form(entry))
        return
    if (bare := entry.lstrip()).startswith("{") and (unpacked := _from_json(bare)):
        for line in read(unpacked):
            yield LogLine(line.text, "JSON", line.is_cut)
        return
    tags = list(_TAG.finditer(entry))
    if not tags:
        yield from _without_tag(entry)
        return
    begin, host, form, program = 0, "", "", ""
    for number, tag in enumerate(tags):
        rest, found, names = _prefix(entry[begin : tag.start()])
        if number and rest:
            near = max(begin, tag.start() - _PREFIX_MAX)
            cut = _last_stamp(entry[near : tag.start()])
            rest, found, names = _prefix(entry[near + cut : tag.start()])
            if cut < 0 or rest:
                # A tag in the text of the line before it, and no line of its own.
                continue
            yield _line(host, program, entry[begin : near + cut], form)
        elif number and entry[begin : tag.start()].strip():
            # Only a prefix between two tags: a log in a log.
            names = [*names, "log in a log"]
        host = found or host
        form = "log line in prose" if rest else _form(names)
        program = tag[0].removesuffix(":").replace("[PID]", "[0]")
        begin = tag.end()
    yield _line(host, program, entry[begin:], form)


def _line(host: str, program: str, text: str, form: str) -> LogLine:
    if columns := _AFTER_TAG.match(text):
        text = text[columns.end() :].rstrip('| \t"')
    text = text.strip()
    for name, pattern, instead in _REPAIRS:
        if name in text:
            text = pattern.sub(instead, text)
    text = _with_queue_id(text)
    if "  " in text or "\t" in text:
        text = _RUNS.sub(" ", text)
    text = _AFTER_EQUALS.sub("", text)
    cut = _CUT.search(text)
    if cut and not text.endswith(("<>", "]>")) and text.count("<") < text.count(">"):
        text = text[: cut.start()]
    else:
        cut = None
    return LogLine(f"{_STAMP} {host or NO_HOST} {program}: {text}", form, cut is not None)


def _with_queue_id(text: str) -> str:
    """Return a text with a queue id instead of the word that hides it."""
    found = _HIDDEN_ID.match(text)
    if not found or _QUEUE_ID.fullmatch(found[1]) or found[1] == "NOQUEUE":
        return text
    return f"{zlib.crc32(found[1].encode()):08X}: {text[found.end() :]}"


def _plain_form(entry: str) -> str:
    return "RFC 3339" if entry[0].isdigit() else "syslog"


def _form(names: list[str]) -> str:
    said = [name for name in dict.fromkeys(names) if name not in _SILENT]
    if not any(name in _STAMPS for name in said):
        said.append("without time and host")
    return ", ".join(said)


def _prefix(text: str) -> tuple[str, str, list[str]]:
    """Return the rest, the host and the names of the forms of what stands before a tag."""
    host = ""
    names: list[str] = []
    rest = text[-_PREFIX_MAX:]
    while rest:
        for name, pattern in _PREFIXES:
            if name == "host" and (not names or not set(names) & _BEFORE_HOSTS):
                continue
            found = pattern.match(rest)
            if found and found[0]:
                names.append(name)
                host = found[0] if name == "host" else host
                rest = rest[found.end() :]
                break
        else:
            return rest, host, names
    return "", host, names


def _has_prefix_only(line: str) -> bool:
    tag = _TAG.search(line)
    if tag is None:
        return False
    rest, _, _ = _prefix(line[: tag.start()])
    # In prose only what is as long as a log line is one.
    return not rest or "[" in tag[0]


def _last_stamp(text: str) -> int:
    """Return where the last time stamp in a text begins, or -1."""
    found = -1
    for match in _STAMP_INSIDE.finditer(text):
        found = match.start()
    return found


_STAMP_INSIDE = re.compile(rf"(?<![^\W\d_])(?:{_MONTH_DAY} {_TIME}|{_DATED})")


def _is_columns(line: str) -> bool:
    """Return True for a row of a web page's log table: stamp | severity | text."""
    if "|" not in line:
        return False
    head, _, text = line.rpartition(" | ")
    rest, _, names = _prefix(head)
    return not rest and bool(set(names) & _STAMPS) and _NOTICE.match(text) is not None


def _is_stamped(line: str) -> bool:
    """Return True for the line of another program: stamp, host and program."""
    if not _CLOCK.search(line[:_PREFIX_MAX]):
        return False
    rest, host, names = _prefix(line[:_PREFIX_MAX])
    del rest
    return bool(host or "outer log" in names) and "outer log" in names and names[0] in (
        *_STAMPS, "quoting", "priority", "container's name",
    )  # fmt: skip


def _without_tag(entry: str) -> Iterator[LogLine]:
    if found := _BARE.search(entry):
        text = entry[found.start() :]
        rest, host, names = _prefix(entry[: found.start()])
        form = "log line in prose" if rest else _form(names)
        yield _line("" if rest else host, f"postfix/{program_of(text)}", text, form)
    elif _is_columns(entry):
        head, _, text = entry.rpartition(" | ")
        yield _line("", f"postfix/{program_of(text)}", text, _form(_prefix(head)[2]))
    else:
        yield from _of_another_program(entry)


def _of_another_program(entry: str) -> Iterator[LogLine]:
    host = program = ""
    rest = entry
    names: list[str] = []
    while rest and not program:
        for name, pattern in _PREFIXES:
            found = pattern.match(rest)
            if not found or not found[0]:
                continue
            if name == "host" and not names:
                continue
            names.append(name)
            if name == "outer log":
                *before, program = found[0].removesuffix(":").split()
                host = before[0] if before else host
            elif name == "host":
                host = found[0]
            rest = rest[found.end() :]
            break
        else:
            return
    if program:
        yield _line(host, program, rest, "another program's log")


def program_of(text: str) -> str:
    """Return the Postfix program that logs such a text."""
    body = text.partition(": ")[2] or text
    if found := _REJECTS.match(body):
        return "cleanup" if found[1] in ("END-OF-MESSAGE", "header", "body") else "smtpd"
    for start, program in (("client=", "smtpd"), ("connect from", "smtpd"), ("uid=", "pickup"),
                           ("message-id=", "cleanup"), ("from=<", "qmgr"),
                           ("removed", "qmgr")):  # fmt: skip
        if body.startswith(start) or text.startswith(start):
            return program
    relay = found[1] if (found := _RELAY.search(body)) else ""
    if relay in ("local", "virtual"):
        return relay
    if relay == "none" and "unknown in virtual" in body:
        return "error"
    if "[" in relay:
        return "lmtp" if "[/" in relay or "[private/" in relay else "smtp"
    return "smtp" if relay in ("", "none") else "pipe"


def _from_json(line: str) -> str:
    """Return the log line in a line of JSON by journald, Docker or a web interface, or ""."""
    if len(line) > _JSON_MAX or not _JSON_FIELD.search(line):
        return ""
    try:
        fields = json.loads(line.rstrip(","))
    except (ValueError, RecursionError):
        return ""
    return _of_fields(fields) if isinstance(fields, dict) else ""


def _of_fields(fields: Mapping[str, object]) -> str:
    if isinstance(fields.get("log"), str):
        return str(fields["log"]).rstrip("\n")
    text = fields.get("MESSAGE", fields.get("message"))
    if not isinstance(text, str):
        return ""
    program = str(fields.get("SYSLOG_IDENTIFIER", fields.get("program", "")))
    if not re.fullmatch(r"[\w./-]{1,99}", program):
        return text
    pid = str(fields.get("SYSLOG_PID") or fields.get("_PID") or 0)
    return f"{_STAMP} {fields.get('_HOSTNAME', NO_HOST)} {program}[{pid}]: {text}"
