"""The summary of a reading: how many lines were read as what, and which were not. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from maillab.repro.reading import tables
from maillab.repro.reading.sorting import ReadLine

_SHOWN_CHARS = 100
_NAMES = {
    "log": "of the log", "setting": "of settings", "row": "of master.cf", "notice":
    "of a delivery notice", "queue": "of a queue listing", "dialogue": "of an SMTP dialogue",
}  # fmt: skip
_ADVICE = {
    "a sentence with a setting": "a sentence; to use it, write 'name = value' on a line of its own",
    "a line with a time": "no log line that maillab knows; give the line as it stands in the log",
    "name = value, but no parameter of Postfix": "no parameter of Postfix; to use it, put it "
    "among the lines of 'postconf -n'",
    "a log line without its addresses": "a web page took its <addresses> for HTML; put them back, "
    "or use --from and --to",
}


@dataclass(frozen=True)
class NotRead:
    """The lines of one kind that were not read: their number, and the first of them."""

    kind: str
    count: int
    number: int
    text: str

    def __str__(self) -> str:
        """Return the line, and what to do."""
        more = f" (and {self.count - 1} more)" if self.count > 1 else ""
        return f"line {self.number}{more}: {self.text!r}: {_ADVICE.get(self.kind, self.kind)}"


def counted(lines: Iterable[ReadLine]) -> Iterator[str]:
    """Yield a sentence for each kind of lines that were read, with their forms."""
    by_kind: dict[str, Counter[str]] = {}
    for line in lines:
        if line.kind in _NAMES or line.kind == "table":
            by_kind.setdefault(line.kind, Counter())[line.form] += 1
    for kind, forms in by_kind.items():
        if kind == "table":
            for path, count in forms.items():
                what = "file" if tables.is_configuration(path) else "table"
                yield f"{_lines(count)} of {what} {path}"
            continue
        total = sum(forms.values())
        named = [form for form, _ in forms.most_common() if form not in ("continued", "master.cf")]
        said = f" ({'; '.join(named)})" if named and kind in ("log", "setting") else ""
        yield f"{_lines(total)} {_NAMES[kind]}{said}"


def _lines(count: int) -> str:
    return f"{count} line{'s'[: count != 1]}"


def not_read(lines: Iterable[ReadLine]) -> list[NotRead]:
    """Return the first line of each kind that was not read."""
    found: dict[str, list[ReadLine]] = {}
    for line in lines:
        if line.kind == "not read":
            found.setdefault(line.form, []).append(line)
    return [
        NotRead(kind, len(all_), all_[0].number, all_[0].text[:_SHOWN_CHARS])
        for kind, all_ in found.items()
    ]


def explained(lines: Iterable[ReadLine]) -> Iterator[str]:
    """Yield each line with its number, kind and form."""
    for line in lines:
        what = line.kind if line.form in ("", line.kind) else f"{line.kind}: {line.form}"
        yield f"{line.number:>5}  {what:<40}  {line.text[:200]}"
