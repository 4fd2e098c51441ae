"""The plot of a load: throughput, open sessions and queues over time, with faults as bands."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from maillab.errors import BadInput
from maillab.load.report import Report

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_BIN_S = 0.5


def draw(report: Report, path: Path) -> None:
    """Write the plot in the format of the file name's suffix; raise BadInput.

    Needs matplotlib: ``pip install 'maillab[plot]'``.
    """
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415  # takes a second to load
    except ImportError:
        raise BadInput("a plot needs matplotlib: pip install 'maillab[plot]'") from None
    figure = Figure(figsize=(9, 7), layout="constrained")
    rate, sessions, queues = figure.subplots(3, 1, sharex=True)
    at_s = [sample.at_s for sample in report.samples]
    _throughput(rate, report)
    sessions.plot(at_s, [sample.open for sample in report.samples], color="tab:blue")
    sessions.set_ylabel("open sessions")
    hosts = sorted({host for sample in report.samples for host in sample.queued})
    for host in hosts:
        lengths = [sample.queued.get(host, float("nan")) for sample in report.samples]
        queues.plot(at_s, lengths, label=host)
    queues.set_ylabel("messages in queues")
    queues.set_xlabel("seconds")
    if hosts:
        queues.legend(loc="upper right")
    for axes in (rate, sessions, queues):
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
        for number, band in enumerate(report.bands):
            label = band.what if axes is rate else None
            axes.axvspan(band.begin_s, band.end_s, alpha=0.2, color=f"C{number + 3}", label=label)
    if report.bands:
        rate.legend(loc="upper right", fontsize="small")
    figure.suptitle(report.asked, fontsize="medium")
    try:
        figure.savefig(path)
    except (OSError, ValueError) as error:
        raise BadInput(f"{path}: cannot write the plot: {error}") from error


def _throughput(axes: Axes, report: Report) -> None:
    """Draw the number of messages by outcome in each half second."""
    over = [message for message in report.messages if message.done_s]
    if over:
        first = min(message.due_s for message in over)
        ends: dict[str, Any] = {}
        for message in over:
            ends.setdefault(message.outcome, []).append(message.done_s - first)
        last = max(moment for moments in ends.values() for moment in moments)
        bins = [number * _BIN_S for number in range(int(last / _BIN_S) + 2)]
        axes.hist(
            list(ends.values()), bins=bins, stacked=True, label=list(ends),
            weights=[[1 / _BIN_S] * len(moments) for moments in ends.values()],
        )  # fmt: skip
        if not report.bands:
            axes.legend(loc="upper right")
    axes.set_ylabel("messages a second")
