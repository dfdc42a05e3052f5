"""What `make bench` hands over: results.json, results.md and chart.svg, and the lines in the terminal."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import zip_longest
from math import isfinite, isnan
from pathlib import Path

from loadtests.chart import Bar, Bound, Chart, Part, Stack, draw
from loadtests.machine import Machine
from loadtests.processes import DRIVER
from loadtests.results import Run, Summary
from loadtests.targets import Target, targets_of
from loadtests.wording import bad_checks, bound, label, number, spoken, times, unit_of_work

FLOORS, SATURATION = "floors", "saturation"
SERVER_CPU, FLOOR_CPU = "server_cpu_us", "floor_cpu_us"
RATIO = "server_cpu_to_floor_ratio"
MET, MISSED, VOID, NOT_MEASURED = "met", "missed", "void", "not measured"
"""Verdicts; void is a bound that was kept by runs in which something happened that must not."""

_FLOOR_CPU = {
    "broker": "echo_broker_us",
    "service": "echo_responder_us",
    "postgresql": "insert_postgresql_us",
}
_FLOOR_DRIVER = "echo_driver_us"
_CHART_NAMES = {"service": "service (floor: responder)", DRIVER: "driver (not a server)"}


def completed(summaries: Sequence[Summary]) -> Sequence[Summary]:
    """Every run with the sum of the servers' CPU time, and saturation's with its ratio to its floors."""
    floors = _find(summaries, FLOORS)
    floor_cpu = [run.figures.get(FLOOR_CPU, 0.0) for run in floors.runs] if floors else []
    return [
        replace(
            summary,
            runs=[
                replace(run, figures={**run.figures, **_derived(run, beside or 0.0), **run.figures})
                for run, beside in zip_longest(summary.runs, floor_cpu[: len(summary.runs)])
            ],
        )
        for summary in summaries
    ]


def write_report(summaries: Sequence[Summary], machine: Machine, folder: Path) -> None:
    """Writes results.json, results.md and chart.svg; no chart where neither of its workloads was run."""
    summaries = completed(summaries)
    folder.mkdir(parents=True, exist_ok=True)
    content = json.dumps(as_json(summaries, machine), indent=2, ensure_ascii=False)
    (folder / "results.json").write_text(f"{content}\n", encoding="utf-8")
    picture = chart(summaries)
    (folder / "results.md").write_text(
        markdown(summaries, machine, has_chart=picture is not None), encoding="utf-8"
    )
    if picture is None:
        # One of an earlier benchmark would stand beside figures that are not its own.
        (folder / "chart.svg").unlink(missing_ok=True)
    else:
        (folder / "chart.svg").write_text(draw(picture), encoding="utf-8")


def printed(summary: Summary, floors: Summary | None = None) -> str:
    """A workload for the terminal; its ratio to the floors where they are given."""
    (summary, *_) = completed([summary, *([floors] if floors else [])])
    lines = [f"{summary.workload} ({times(summary)})"]
    rows = list(_rows(summary))
    width = max((len(label(row.figure)) for row in rows), default=0)
    for row in rows:
        target = f"   target {bound(row.target)}: {row.verdict}" if row.target else ""
        lines.append(
            f"  {label(row.figure):<{width}}  {row.median:>9}  {f'({row.spread})':<19}{target}".rstrip()
        )
    if summary.cpu_us:
        used = (f"{spoken([role])} {number(value)}" for role, value in _by_role(summary.cpu_us))
        lines.append(f"  CPU in µs for each {unit_of_work(summary)}: {', '.join(used)}")
    lines.append(f"  {bad_checks(summary).upper() or 'all checks are 0'}")
    return "\n".join(lines)


def as_json(summaries: Sequence[Summary], machine: Machine) -> dict[str, object]:
    """Everything; a value that is no number is null."""
    return {
        "machine": asdict(machine),
        "workloads": [
            {
                "workload": summary.workload,
                "is_correct": _is_correct(summary),
                "figures": _finite(summary.figures),
                "cpu_us": _finite(summary.cpu_us),
                "checks": dict(summary.checks),
                "targets": [
                    {
                        "figure": row.figure,
                        "at_least": row.target.at_least,
                        "at_most": row.target.at_most,
                        "verdict": row.verdict,
                    }
                    for row in _rows(summary)
                    if row.target
                ],
                "runs": [
                    {
                        "workload": run.workload,
                        "figures": _finite(run.figures),
                        "cpu_us": _finite(run.cpu_us),
                        "checks": dict(run.checks),
                    }
                    for run in summary.runs
                ],
            }
            for summary in summaries
        ],
    }


def markdown(summaries: Sequence[Summary], machine: Machine, *, has_chart: bool) -> str:
    """The tables; `summaries` are completed."""
    programs = ", ".join(f"{name} {version}" for name, version in machine.versions.items())
    lines = [
        "# Benchmark",
        "",
        f"Measured on {machine.date}: {machine.processor}, {machine.cores} cores, "
        f"{number(machine.memory_gib)} GiB of memory, {machine.kernel}; {programs}.",
        "",
        *_overall(summaries),
    ]
    if has_chart:
        lines += ["", "![CPU time of a message by process, and messages a second](chart.svg)"]
    for summary in summaries:
        if summary.workload != FLOORS:
            lines += ["", f"## {summary.workload.capitalize()}", "", *_workload(summary)]
    floors = _find(summaries, FLOORS)
    lines += _cpu_table(summaries, floors)
    if floors:
        lines += ["", "## Floors", "", *_workload(floors), *_comparison(summaries, floors)]
    return "\n".join([*lines, ""])


def chart(summaries: Sequence[Summary]) -> Chart | None:
    """What is drawn of completed summaries; None when there is nothing to draw."""
    floors, saturation = _find(summaries, FLOORS), _find(summaries, SATURATION)
    if not floors and not saturation:
        return None
    stacks, bars = [], []
    if floors:
        stacks.append(
            _stack(
                "Floor: echo through the broker, and insert",
                "floor",
                _floor_cpu(floors),
                floors.figures.get(FLOOR_CPU, 0.0),
            )
        )
        bars.append(_bar("floor", "Echo floor", floors.figures.get("echo_per_second", 0.0)))
    if saturation:
        stacks.append(
            _stack(
                "Saturation: stored and delivered",
                SATURATION,
                saturation.cpu_us,
                saturation.figures.get(SERVER_CPU, 0.0),
            )
        )
        messages = saturation.figures.get("messages_per_second", 0.0)
        bars.append(_bar("service", "Saturation", messages))
    targets = targets_of(Summary(workload=SATURATION, runs=()))
    cpu, throughput = targets.get(SERVER_CPU), targets.get("messages_per_second")
    if throughput and throughput.at_least is not None:
        bars.append(replace(_bar("target", "Target", throughput.at_least), is_aside=True))
    line = None
    if cpu and cpu.at_most is not None:
        line = Bound(value=cpu.at_most, text=f"target of the servers {bound(cpu)} µs")
    ratio = _ratio(saturation, floors, "messages_per_second", "echo_per_second")
    return Chart(
        stacks_header="CPU time for each message (µs)",
        stacks=stacks,
        bound=line,
        bars_header="Messages a second",
        bars=bars,
        notes=[f"Saturation reaches {number(ratio)} × the echo."] if ratio is not None else [],
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    figure: str
    median: str
    spread: str
    target: Target | None
    verdict: str


def _rows(summary: Summary) -> Iterable[_Row]:
    targets = targets_of(summary)
    for figure, value in summary.figures.items():
        target = targets.get(figure)
        yield _Row(
            figure=figure,
            median=number(value),
            spread=" to ".join(map(number, summary.spread(figure))),
            target=target,
            verdict=_verdict(target, value, summary) if target else "",
        )
    for figure, target in targets.items():
        if figure not in summary.figures:
            yield _Row(figure=figure, median="–", spread="–", target=target, verdict=NOT_MEASURED)


def _verdict(target: Target, value: float, summary: Summary) -> str:
    if isnan(value) or not target.is_met(value):
        return MISSED
    return MET if _is_correct(summary) else VOID


def _workload(summary: Summary) -> list[str]:
    rows = [
        (label(row.figure), row.median, row.spread, bound(row.target) if row.target else "", row.verdict)
        for row in _rows(summary)
    ]
    header = ("figure", f"median of {times(summary)}", "smallest to largest", "target", "")
    checked = ", ".join(name for name, count in summary.checks.items() if not count)
    bad = bad_checks(summary)
    sentences = [f"**{bad.capitalize()}: these runs do not count.**"] if bad else []
    if checked:
        sentences.append(f"Checked and 0{'' if bad else ', all of them'}: {checked}.")
    return [*_table(header, rows), "", " ".join(sentences) or "Nothing was checked."]


def _overall(summaries: Sequence[Summary]) -> list[str]:
    judged = [(summary.workload, row) for summary in summaries for row in _rows(summary) if row.target]
    failed = [
        f"{workload} {label(row.figure)} {row.verdict}" for workload, row in judged if row.verdict != MET
    ]
    bad = [f"{summary.workload} ({bad_checks(summary)})" for summary in summaries if bad_checks(summary)]
    lines = [f"{len(judged) - len(failed)} of {len(judged)} targets met."]
    lines += [f"Not met: {'; '.join(failed)}."] if failed else []
    lines += [f"**Wrong: {'; '.join(bad)}.**"] if bad else ["Every check of every run is 0."]
    return [" ".join(lines)]


def _cpu_table(summaries: Sequence[Summary], floors: Summary | None) -> list[str]:
    used = [
        (summary.workload, unit_of_work(summary), summary.cpu_us, summary.figures[SERVER_CPU])
        for summary in summaries
        if summary.cpu_us
    ]
    if floors and FLOOR_CPU in floors.figures:
        name = "floors: echo (its responder as the service) and insert"
        used.append((name, "message", _floor_cpu(floors), floors.figures[FLOOR_CPU]))
    if not used:
        return []
    roles = list(dict.fromkeys(role for _, _, cpu, _ in used for role in cpu if role != DRIVER))
    rows = [
        (
            name,
            unit,
            *(number(cpu[role]) if role in cpu else "–" for role in roles),
            number(servers),
            number(cpu[DRIVER]) if DRIVER in cpu else "–",
        )
        for name, unit, cpu, servers in used
    ]
    header = ("workload", "for each", *(spoken([role]) for role in roles), "sum of the servers", DRIVER)
    note = "Medians of the runs, so that a sum may differ a little from its parts."
    return ["", "## CPU time (µs)", "", *_table(header, rows, left=2), "", note]


def _comparison(summaries: Sequence[Summary], floors: Summary) -> list[str]:
    saturation, lines = _find(summaries, SATURATION), []
    cpu = saturation.figures.get(RATIO) if saturation else None
    throughput = _ratio(saturation, floors, "messages_per_second", "echo_per_second")
    if cpu is not None:
        lines.append(f"- The servers use {number(cpu)} × the floors' CPU time for a message of saturation.")
    if throughput is not None:
        lines.append(f"- Saturation reaches {number(throughput)} × the messages of the echo.")
    return ["", *lines] if lines else []


def _ratio(saturation: Summary | None, floors: Summary | None, figure: str, limit: str) -> float | None:
    if saturation is None or floors is None or figure not in saturation.figures:
        return None
    divisor = floors.figures.get(limit, 0.0)
    return saturation.figures[figure] / divisor if divisor else None


def _derived(run: Run, floor_cpu: float) -> dict[str, float]:
    if not run.cpu_us:
        return {}
    servers = sum(value for role, value in run.cpu_us.items() if role != DRIVER)
    if run.workload != SATURATION or not floor_cpu:
        return {SERVER_CPU: servers}
    return {SERVER_CPU: servers, RATIO: servers / floor_cpu}


def _floor_cpu(floors: Summary) -> Mapping[str, float]:
    names = {**_FLOOR_CPU, DRIVER: _FLOOR_DRIVER}
    return {role: floors.figures[name] for role, name in names.items() if name in floors.figures}


def _stack(name: str, column: str, cpu_us: Mapping[str, float], servers: float) -> Stack:
    parts = [
        Part(
            role=role,
            name=_CHART_NAMES.get(role, spoken([role])),
            value=value if isfinite(value) else 0.0,
            text=number(value),
            is_aside=role == DRIVER,
        )
        for role, value in _by_role(cpu_us)
    ]
    return Stack(name=name, column=column, total=f"servers {number(servers)} µs", parts=parts)


def _bar(role: str, name: str, value: float) -> Bar:
    return Bar(role=role, name=name, value=value if isfinite(value) else 0.0, text=f"{number(value)}/s")


def _by_role(cpu_us: Mapping[str, float]) -> list[tuple[str, float]]:
    """The driver, which is no server, last."""
    return sorted(cpu_us.items(), key=lambda item: item[0] == DRIVER)


def _find(summaries: Sequence[Summary], workload: str) -> Summary | None:
    return next((summary for summary in summaries if summary.workload == workload), None)


def _is_correct(summary: Summary) -> bool:
    return all(run.is_correct for run in summary.runs)


def _finite(values: Mapping[str, float]) -> dict[str, float | None]:
    return {name: value if isfinite(value) else None for name, value in values.items()}


def _table(header: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1) -> list[str]:
    rule = [":--" if place < left else "--:" for place in range(len(header))]
    return [f"| {' | '.join(cells)} |" for cells in (header, rule, *rows)]
