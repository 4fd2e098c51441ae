"""The report of a load: messages, latencies, and samples over time. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from hdrh.histogram import HdrHistogram

PHASES = ("connect", "greeting", "EHLO", "MAIL", "RCPT", "DATA", "end of data", "whole")
PERCENTILES = (50.0, 90.0, 99.0, 100.0)

# From a microsecond to an hour, to three digits.
_LEAST_US, _MOST_US, _DIGITS = 1, 3_600_000_000, 3
_US = 1e6
_BAR = "▁▂▃▄▅▆▇█"


@dataclass(frozen=True)
class Attempted:
    """One message as its sender saw it; ``due_s`` and ``done_s`` are by the sender's clock."""

    number: int
    recipients: tuple[str, ...]
    template: int
    outcome: str
    code: int
    text: str
    rejections: tuple[tuple[str, int, str], ...]
    attempts: int
    due_s: float
    done_s: float
    phases: Mapping[str, float]

    @classmethod
    def of(cls, line: Sequence[Any]) -> Attempted:
        """Parse a message that a worker of the generator reported."""
        number, recipients, template, outcome, code, text, rejections, *rest = line
        refused = tuple((who, was, why) for who, was, why in rejections)
        return cls(number, tuple(recipients), template, outcome, code, text, refused, *rest)


@dataclass(frozen=True)
class Sample:
    """The state of a load at one time, in seconds since the load started."""

    at_s: float
    open: int
    acknowledged: int
    queued: Mapping[str, int]


@dataclass(frozen=True)
class Band:
    """The time during which a fault was active, in seconds since the load started."""

    what: str
    begin_s: float
    end_s: float


@dataclass(frozen=True)
class Report:
    """The report of one load; ``complaints`` say how it differs from what was requested."""

    asked: str
    messages: tuple[Attempted, ...]
    samples: tuple[Sample, ...]
    replies: Mapping[str, int]
    counts: Mapping[str, int]
    open_max: int
    took_s: float
    rss_kb: int = 0
    bands: tuple[Band, ...] = ()
    complaints: tuple[str, ...] = ()
    ledger: str = ""
    outcomes: Mapping[str, int] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "outcomes", Counter(one.outcome for one in self.messages))

    @property
    def acknowledged(self) -> int:
        """The number of messages whose end of data was answered with 250."""
        return self.outcomes["acknowledged"]

    @property
    def rate_per_s(self) -> float:
        """Acknowledged messages per second, from the first due to the last done."""
        over = [one for one in self.messages if one.outcome == "acknowledged"]
        if not over:
            return 0.0
        return len(over) / max(
            max(one.done_s for one in over) - min(one.due_s for one in over), 1e-9
        )

    @cached_property
    def _histograms(self) -> Mapping[str, HdrHistogram]:
        found = {phase: HdrHistogram(_LEAST_US, _MOST_US, _DIGITS) for phase in PHASES}
        for one in self.messages:
            for phase, took_s in one.phases.items():
                found[phase].record_value(max(_LEAST_US, round(took_s * _US)))
        return found

    def latency_s(self, phase: str, percentile: float) -> float:
        """Return a percentile of a phase's duration; "whole" starts when the message is due."""
        histogram = self._histograms[phase]
        return float(histogram.get_value_at_percentile(percentile)) / _US

    def as_json(self) -> dict[str, Any]:
        """Return the report for programs."""
        return {
            "asked": self.asked,
            "messages": len(self.messages),
            "outcomes": dict(self.outcomes),
            "rate_per_s": round(self.rate_per_s, 1),
            "took_s": round(self.took_s, 3),
            "open_max": self.open_max,
            "replies": dict(sorted(self.replies.items())),
            "counts": dict(self.counts),
            "latency_s": {
                phase: {f"p{p:g}": round(self.latency_s(phase, p), 6) for p in PERCENTILES}
                for phase in PHASES
                if self._histograms[phase].total_count
            },
            "rss_kb": self.rss_kb,
            "bands": [[band.what, band.begin_s, band.end_s] for band in self.bands],
            "complaints": list(self.complaints),
            "ledger": self.ledger,
        }

    def text(self) -> str:
        """Return the report for people."""
        lines = [self.asked]
        ended = ", ".join(f"{count} {what}" for what, count in self.outcomes.items())
        count, open_max = len(self.messages), self.open_max
        lines.append(
            f"{count} message{'s'[: count != 1]}: {ended or 'none'}; "
            f"{self.rate_per_s:.1f} a second acknowledged, "
            f"{open_max} session{'s'[: open_max != 1]} open at most, {self.took_s:.1f} s in all"
        )
        replies = ", ".join(f"{code}: {count}" for code, count in sorted(self.replies.items()))
        lines.append(f"replies: {replies or 'none'}")
        told = ("retried", "broken", "connections refused", "closed while idle")
        odd = [f"{self.counts[what]} {what}" for what in told if self.counts.get(what)]
        if odd:
            lines.append(", ".join(odd))
        head = "".join(f"{f'p{p:g}':>10}" for p in PERCENTILES)
        lines.append(f"milliseconds  {head}")
        for phase in PHASES:
            if self._histograms[phase].total_count:
                cells = "".join(f"{self.latency_s(phase, p) * 1000:10.1f}" for p in PERCENTILES)
                lines.append(f"  {phase:<12}{cells}")
        if self.samples:
            lines.append(f"open sessions {_spark([sample.open for sample in self.samples])}")
        lines += [
            f"{band.what}: from {band.begin_s:.1f} to {band.end_s:.1f} s" for band in self.bands
        ]
        lines += self.complaints
        return "\n".join([*lines, *filter(None, [self.ledger])])


def _spark(values: Sequence[int], width: int = 60) -> str:
    """Return a line of bars; each bar is the maximum of its share of the values."""
    most = max(values) or 1
    share = max(1, -(-len(values) // width))
    tops = [max(values[at : at + share]) for at in range(0, len(values), share)]
    return "".join(_BAR[round(top / most * (len(_BAR) - 1))] for top in tops) + f" (at most {most})"
