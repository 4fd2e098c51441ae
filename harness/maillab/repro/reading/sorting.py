"""The sorting of a paste: each line gets a kind and joins the entry that it belongs to. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from maillab.repro.reading import dialogues, joining, logs, markup, notices, settings, tables
from maillab.repro.reading.logs import LogLine
from maillab.repro.reading.markup import Line
from maillab.repro.reading.notices import Told
from maillab.repro.reading.settings import Setting

# master(5): eight columns, the last with its arguments.
_ROW = re.compile(
    r"[^\s#]\S*\s+(?:inet|unix|unix-dgram|fifo|pass)(?:\s+[yn-]){3}\s+(?:\d+\??|-)\s+(?:\d+|-)\s+\S+.*"
)
_ROW_GOES_ON = re.compile(
    r"\s*(?:-o[\s{]|-v\b|(?:flags|user|argv|directory|size|eol|null_sender)=)"
)
# The endings of complete log lines.
_WHOLE = re.compile(
    r"(?:removed|helo=<[^<>]*>|connect from \S+\]|message-id=<[^<>]*>|client=\S+\]|nrcpt=\d+"
    r"|commands=\d+(?:/\d+)?|notification: \w+|uid=\d+ from=<[^<>]*>|-- throttling"
    r"|exit status \d+|proto=E?SMTP)$"
)
_MUST_GO_ON = re.compile(r"(?:\bto=<|reject: |status=|: uid=\d+$|from=<|[:,]$)")
_END_CHARS = 1000
# Web pages take <user@example.com> for HTML.
_LOST_ADDRESS = re.compile(r"\b(?:to=(?:,| proto=)|from=(?:, size=| to=))")
_NAMED_TABLE = re.compile(
    r"(?:\b(\w{1,99})[ \t]*=[ \t]*(?:proxy:)?)?\b(?:hash|btree|lmdb|cdb|dbm|texthash|regexp|pcre"
    r"|cidr|mysql|pgsql|ldap|sqlite|memcache):(/[\w./+-]{1,255})"
)
_RESTRICTION = re.compile(r"\s*(?:permit|reject|check|defer|warn_if)(?:_\w+)?(?=[\s,]|$)")
_LIST_OPEN = re.compile(r"(?:,|^)$")
_LOOKS_STAMPED = re.compile(r"\d\d:\d\d:\d\d")


@dataclass(frozen=True)
class ReadLine:
    """One line as it was read: its kind, and the name of its form.

    ``kind`` is "log", "setting", "row", "table", "notice", "queue", "dialogue", "not read" or
    "text".
    """

    number: int
    kind: str
    form: str
    text: str


class _Open:
    """An entry that may continue on further lines."""

    def __init__(self, line: Line, text: str) -> None:
        self._parts = [text]
        self._widths = [line.terminal_width]
        self._end = text
        self._open = text.count("(") - text.count(")")
        self.width = line.width
        self.indent = line.indent
        # What a log line was read as, unless it goes on.
        self.known: list[LogLine] = []

    def add(self, line: Line) -> None:
        """Continue the entry; the cost depends only on the added line."""
        self._parts.append(line.text)
        self._widths.append(line.terminal_width)
        self._end = f"{self._end[-_END_CHARS:]} {line.text.strip()}"
        self._open += line.text.count("(") - line.text.count(")")
        self.width = line.width
        self.known = []

    @property
    def end(self) -> str:
        """The last characters."""
        return self._end[-_END_CHARS:]

    @property
    def is_whole(self) -> bool:
        """Return True if a log line is complete: parentheses balanced, or a known ending."""
        balanced = self._end.endswith(")") and self._open <= 0
        return balanced or _WHOLE.search(self.end) is not None

    def __str__(self) -> str:
        return joining.joined(self._parts, self._widths)


@dataclass
class Sorted:
    """The entries of a paste, by kind; ``tables`` are contents by path."""

    settings: dict[str, str] = field(default_factory=dict)
    rows: list[str] = field(default_factory=list)
    logged: list[LogLine] = field(default_factory=list)
    tables: dict[str, str] = field(default_factory=dict)
    told: list[Told] = field(default_factory=list)
    options: list[Setting] = field(default_factory=list)
    lines: list[ReadLine] = field(default_factory=list)
    # Which settings stood below each other, to judge whether main.cf is whole.
    order: list[str] = field(default_factory=list)


def sort(text: str) -> Sorted:
    """Sort the lines of a paste by kind."""
    lines = list(markup.lines_of(text))
    named: dict[str, str] = {}
    for parameter, path in _NAMED_TABLE.findall(text):
        named.setdefault(path, parameter)
    return _Sorter(named).sort(lines)


class _Sorter:
    """The state of the sorting: the entry and the section that a line may continue."""

    def __init__(self, named: dict[str, str]) -> None:
        self._named = named
        self._out = Sorted()
        self._before = ""
        self._log: list[_Open] = []
        self._rows: list[_Open] = []
        self._settings: dict[str, _Open] = {}
        self._hints: dict[str, str] = {}
        self._setting = ""
        self._own: tuple[Line, Setting] | None = None
        self._path = ""
        self._tables: dict[str, list[str]] = {}
        self._blank = False
        self._key = ("", "")
        self._notice = notices.Notice()
        self._listing = notices.Listing()
        self._dialogue = dialogues.Dialogue()
        self._quoted: list[Told] = []

    def sort(self, lines: Iterable[Line]) -> Sorted:
        """Take all lines and return the entries."""
        for line in lines:
            kind, form = self._take(line)
            if kind:
                self._out.lines.append(ReadLine(line.number, kind, form, line.text.strip()))
        return self._finish()

    def _finish(self) -> Sorted:
        out = self._out
        for entry in self._log:
            out.logged.extend(entry.known or logs.read(joining.without_filling(str(entry))))
        out.settings = {
            **{name: value for name, value in self._hints.items() if name not in self._settings},
            **{name: _value(entry) for name, entry in self._settings.items()},
        }
        out.rows = [str(entry) for entry in self._rows]
        out.tables = {
            path: "".join(f"{line}\n" for line in content)
            for path, content in self._tables.items()
            if any(line.strip() and not line.lstrip().startswith("#") for line in content)
        }
        if told := self._notice.finish():
            out.told.append(told)
        out.told.extend(message for message in self._listing.messages if message.fates)
        if self._dialogue.told.fates:
            out.told.append(self._dialogue.told)
        out.told = out.told or self._quoted[:1]
        return out

    def _take(self, line: Line) -> tuple[str, str]:
        """Return a line's kind and form, after adding it to its entry."""
        if line.is_break:
            self._break(line)
            return "", ""
        own, self._own = self._own, None
        for reader in (
            self._take_comment, self._take_table_entry, self._take_log, self._take_more_of_a_log,
            self._take_told, self._take_row, self._take_heading,
        ):  # fmt: skip
            if found := reader(line):
                break
        else:
            found = self._take_setting(line, own) or self._take_more(line) or self._text(line)
        self._blank = False
        return found

    def _break(self, line: Line) -> None:
        self._blank = True
        self._listing.end()
        self._notice.end()
        self._own = None
        if self._before == "setting" and not line.is_fence:
            # main.cf may have empty lines in a setting.
            if _LIST_OPEN.search(self._settings[self._setting].end.rstrip()):
                return
        elif self._before == "heading" or (self._before == "table" and not line.is_fence):
            return
        elif self._before == "table":
            self._path = ""
        self._before = ""

    def _take_comment(self, line: Line) -> tuple[str, str] | None:
        bare = line.text.lstrip()
        if not bare.startswith("#"):
            return None
        if self._path and self._before in ("table", "heading"):
            if path := tables.heading(line.text, self._named):
                return self._open_section(path)
            self._before = "table"
            self._tables.setdefault(self._path, [])
            return "table", self._path
        if path := tables.heading(line.text, self._named):
            return self._open_section(path)
        # main.cf, master.cf: it does not end the entry.
        if self._before in ("setting", "row"):
            return "text", "comment"
        return None

    # Logs.

    def _take_log(self, line: Line) -> tuple[str, str] | None:
        text = line.text
        if not logs.starts(text):
            return None
        goes_on = self._before == "log" and not self._blank and self._log[-1].end.endswith("]:")
        if goes_on and not logs.has_program(text):
            # A mail program broke the line before a queue id.
            return None
        entry = _Open(line, text)
        entry.known = list(logs.read(joining.without_filling(text)))
        self._log.append(entry)
        self._before, self._path = "log", ""
        if _LOST_ADDRESS.search(text):
            return "not read", "a log line without its addresses"
        return "log", entry.known[0].form if entry.known else "log"

    def _take_more_of_a_log(self, line: Line) -> tuple[str, str] | None:
        if self._before != "log" or self._blank:
            return None
        entry = self._log[-1]
        text = line.text.strip()
        if entry.is_whole and not (entry.end.endswith("SMTP") and text.startswith("helo=")):
            return None
        if " = " in text and any(settings.read(text)):
            return None
        must = _MUST_GO_ON.search(entry.end) is not None
        if not (must or joining.was_broken(entry.width, text, width_max=10_000)):
            return None
        if _ROW.fullmatch(text) or tables.heading(text, self._named):
            return None
        entry.add(line)
        return "log", "continued"

    # Notices and queue listings.

    def _take_told(self, line: Line) -> tuple[str, str] | None:
        if self._listing.add(line.text):
            self._before, self._path = "queue", ""
            return "queue", "queue listing"
        if self._notice.add(line.text):
            self._before, self._path = "notice", ""
            return "notice", "delivery notice"
        if self._dialogue.add(line.text):
            self._before, self._path = "dialogue", ""
            return "dialogue", "SMTP dialogue"
        return None

    # master.cf.

    def _take_row(self, line: Line) -> tuple[str, str] | None:
        text = line.text.strip()
        if not _ROW.fullmatch(text):
            if self._before == "row" and _ROW_GOES_ON.match(line.text):
                self._rows[-1].add(line)
                return "row", "continued"
            return None
        self._rows.append(_Open(line, text))
        self._before, self._path = "row", ""
        return "row", "master.cf"

    # Tables.

    def _take_heading(self, line: Line) -> tuple[str, str] | None:
        entries = list(tables.inline(line.text))
        for path, entry in entries:
            self._tables.setdefault(path, []).append(entry)
        if entries:
            if other := tables.heading(line.text, self._named):
                self._open_section(other)
            return "table", entries[0][0]
        if found := tables.asked(line.text):
            self._key = found
            self._before = "asked"
            return "text", "postmap command"
        path = tables.heading(line.text, self._named)
        if path and not any(settings.read(line.text)):
            return self._open_section(path)
        return None

    def _open_section(self, path: str) -> tuple[str, str]:
        self._before = "heading"
        self._path = "" if tables.is_of_postfix(path) or tables.is_log(path) else path
        if self._path:
            # The last of two contents counts.
            self._tables[self._path] = []
        return "text", f"heading of {path}"

    def _take_table_entry(self, line: Line) -> tuple[str, str] | None:
        if self._before == "asked" and not self._blank:
            path, key = self._key
            self._before = ""
            if not logs.starts(line.text) and tables.is_entry(line.text, after_blank=False):
                self._tables.setdefault(path, []).append(f"{key} {line.text.strip()}")
                return "table", path
            return None
        if not self._path or self._before not in ("heading", "table"):
            return None
        after_blank = self._blank and self._before == "table"
        is_other = (
            logs.starts(line.text)
            or _ROW.fullmatch(line.text.strip())
            or tables.is_prompt(line.text)
            or tables.heading(line.text, self._named)
        )
        if not is_other and tables.is_configuration(self._path):
            is_entry = not after_blank or "=" in line.text
        else:
            is_setting = any(one.form == "name = value" for one in settings.read(line.text))
            is_entry = not is_setting and tables.is_entry(line.text, after_blank=after_blank)
        if is_other or not is_entry:
            self._path = ""
            self._before = ""
            return None
        indented = self._tables[self._path] and line.text[:1].isspace()
        self._tables[self._path].append(line.text if indented else line.text.strip())
        self._before = "table"
        return "table", self._path

    # main.cf.

    def _take_setting(self, line: Line, own: tuple[Line, Setting] | None) -> tuple[str, str] | None:
        text = joining.without_filling(line.text)
        found = list(settings.read(text, among=self._before == "setting" and not self._blank))
        if not found:
            if " = " in line.text and not line.text[:1].isspace():
                unknown = next((one for one in settings.read(line.text, among=True)), None)
                self._own = (line, unknown) if unknown else None
            return None
        if own and any(one.form == "name = value" for one in found):
            # A parameter of the reporter's own ("indexed") stands above settings.
            self._add_setting(own[0], own[1])
            for index in range(len(self._out.lines) - 1, -1, -1):
                if self._out.lines[index].number == own[0].number:
                    self._out.lines[index] = ReadLine(
                        own[0].number, "setting", own[1].form, own[0].text.strip()
                    )
                    break
        for setting in found:
            self._add_setting(line, setting)
        return "setting", found[0].form

    def _add_setting(self, line: Line, setting: Setting) -> None:
        self._before = "setting" if not setting.service else self._before
        self._path = ""
        if setting.service:
            self._out.options.append(setting)
            return
        if setting.is_hint:
            self._hints[setting.name] = setting.value
            self._before = ""
            return
        self._settings.pop(setting.name, None)
        self._settings[setting.name] = _Open(line, setting.value)
        self._setting = setting.name
        if setting.form == "name = value":
            self._out.order.append(setting.name)

    def _take_more(self, line: Line) -> tuple[str, str] | None:
        """Continue a setting or a row."""
        if self._before not in ("setting", "row"):
            return None
        entry = self._settings[self._setting] if self._before == "setting" else self._rows[-1]
        if self._before == "row" and self._blank:
            return None
        text = line.text.strip()
        deeper = line.indent > entry.indent
        open_list = (
            self._before == "setting"
            and _LIST_OPEN.search(entry.end.rstrip()) is not None
            and _RESTRICTION.match(line.text) is not None
        )
        broken = not self._blank and joining.was_broken(entry.width, text)
        if not (deeper or open_list or broken) or settings.is_prose(text):
            return None
        if text.startswith(("{", "<")) and not deeper:
            return None
        entry.add(replace(line, text=joining.without_filling(line.text)))
        return self._before, "continued"

    # Everything else.

    def _text(self, line: Line) -> tuple[str, str]:
        text = line.text.strip()
        if told := dialogues.quoted(text):
            self._quoted.append(told)
        if self._before != "asked":
            self._before = "" if self._before != "heading" else "text"
        if settings.is_prose(text):
            return "not read", "a sentence with a setting"
        if _LOOKS_STAMPED.search(text[:60]):
            return "not read", "a line with a time"
        if self._own:
            return "not read", "name = value, but no parameter of Postfix"
        return "text", ""


def _value(entry: _Open) -> str:
    return str(entry).strip()
