"""What a benchmark leaves behind."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import pytest

from loadtests.machine import Machine, memory_gib_of, processor_of, version_in
from loadtests.report import completed, printed, write_report
from loadtests.results import Run, Summary
from loadtests.wording import label, number

MACHINE = Machine(
    processor="A processor",
    cores=2,
    memory_gib=23.5,
    kernel="Linux 6.1",
    versions={"Python": "3.11.7", "Mosquitto": "2.0.11"},
    date="2026-01-31",
)
SVG = "{http://www.w3.org/2000/svg}"


def saturation(
    messages: tuple[float, ...] = (8_600.0, 8_900.0, 8_700.0), checks: Mapping[str, int] | None = None
) -> Summary:
    return Summary(
        workload="saturation",
        runs=[
            Run(
                workload="saturation",
                figures={"messages_per_second": rate, "p50_ms": 22.0},
                cpu_us={"broker": 90.0, "service": 60.0, "postgresql": 20.0, "redis": 0.25, "driver": 50.0},
                checks=checks if checks is not None else {"errors": 0, "undelivered": 0},
            )
            for rate in messages
        ],
    )


def floors(cpu_us: tuple[float, ...] = (159.0, 159.0, 159.0)) -> Summary:
    figures = {
        "echo_per_second": 9_500.0,
        "echo_broker_us": 102.0,
        "echo_responder_us": 50.0,
        "echo_driver_us": 40.0,
        "insert_postgresql_us": 7.0,
    }
    return Summary(
        workload="floors",
        runs=[
            Run(workload="floors", figures=figures | {"floor_cpu_us": used}, checks={"echo_unsettled": 0})
            for used in cpu_us
        ],
    )


def history(pages: float = 2_100.0, checks: Mapping[str, int] | None = None) -> Summary:
    run = Run(
        workload="history",
        figures={"pages_per_second": pages, "p95_ms": 4.1},
        cpu_us={"service": 300.0, "postgresql": 150.0, "driver": 80.0},
        checks=checks if checks is not None else {"wrong_pages": 0},
    )
    return Summary(workload="history", runs=[run])


def report(folder: Path, *summaries: Summary) -> str:
    write_report(summaries, MACHINE, folder)
    return (folder / "results.md").read_text(encoding="utf-8")


def rows(text: str) -> list[list[str]]:
    return [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in text.splitlines()
        if line.startswith("|")
    ]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("messages_per_second", "messages/s"),
        ("insert_rows_per_second", "insert rows/s"),
        ("p50_ms", "p50 (ms)"),
        ("cpu_us", "CPU (µs)"),
        ("insert_postgresql_us", "insert PostgreSQL (µs)"),
        ("broker_kib_per_connection", "broker (KiB/connection)"),
        ("memory_growth_percent", "memory growth (%)"),
        ("server_cpu_to_floor_ratio", "server CPU to floor (ratio)"),
        ("consistent_after_s", "consistent after (s)"),
        ("stored_1000000_us", "stored 1,000,000 (µs)"),
        ("per_second", "per second"),
        ("ms", "ms"),
        ("connections", "connections"),
    ],
)
def test_a_name_is_spoken_with_its_unit(name: str, expected: str) -> None:
    assert label(name) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0.0, "0"),
        (12.0, "12"),
        (1.2, "1.20"),
        (0.1404, "0.140"),
        (9.996, "10.0"),
        (166.6, "167"),
        (999.7, "1,000"),
        (8_512.4, "8,512"),
        (-4.25, "-4.25"),
        (math.inf, "–"),
        (math.nan, "–"),
    ],
)
def test_a_number_has_three_digits_or_all_before_the_point(value: float, expected: str) -> None:
    assert number(value) == expected


def test_the_json_holds_machine_runs_medians_and_verdicts(tmp_path: Path) -> None:
    report(tmp_path, saturation(), history(pages=1_900.0))
    read = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    assert Machine(**read["machine"]) == MACHINE
    first, second = read["workloads"]
    assert [Run(**run) for run in first["runs"]] == list(completed([saturation()])[0].runs)
    assert first["figures"]["messages_per_second"] == 8_700.0
    assert first["figures"]["server_cpu_us"] == 170.25
    assert first["cpu_us"]["driver"] == 50.0
    verdicts = {target["figure"]: target["verdict"] for target in first["targets"]}
    assert verdicts["messages_per_second"] == "met"
    assert verdicts["server_cpu_to_floor_ratio"] == "not measured"
    assert {"figure": "pages_per_second", "at_least": 2_000, "at_most": None, "verdict": "missed"} in second[
        "targets"
    ]


def test_a_value_that_is_no_number_is_null_and_misses_its_target(tmp_path: Path) -> None:
    text = report(tmp_path, history(pages=math.nan), saturation(messages=(math.inf,)))
    read = json.loads(
        (tmp_path / "results.json").read_text(encoding="utf-8"), parse_constant=lambda name: pytest.fail(name)
    )
    assert read["workloads"][0]["figures"]["pages_per_second"] is None
    assert ["pages/s", "–", "– to –", "≥ 2,000", "missed"] in rows(text)


def test_there_is_a_row_for_each_figure(tmp_path: Path) -> None:
    table = rows(report(tmp_path, saturation(), floors()))
    assert ["messages/s", "8,700", "8,600 to 8,900", "≥ 8,500", "met"] in table
    assert ["p50 (ms)", "22", "22 to 22", "", ""] in table
    assert ["server CPU to floor (ratio)", "1.07", "1.07 to 1.07", "≤ 1.35", "met"] in table
    first_cells = [row[0] for row in table]
    for summary in (saturation(), floors()):
        assert all(label(figure) in first_cells for figure in summary.figures)


def test_a_missed_target_is_called_missed(tmp_path: Path) -> None:
    text = report(tmp_path, saturation(messages=(8_000.0,)))
    assert ["messages/s", "8,000", "8,000 to 8,000", "≥ 8,500", "missed"] in rows(text)
    assert "Not met: saturation messages/s missed" in text


def test_checks_that_are_not_zero_are_named_and_void_what_was_met(tmp_path: Path) -> None:
    text = report(tmp_path, history(checks={"errors": 0, "wrong_pages": 2}))
    assert "**Checks not 0: wrong_pages 2: these runs do not count.** Checked and 0: errors." in text
    assert "**Wrong: history (checks not 0: wrong_pages 2).**" in text
    assert ["p95 (ms)", "4.10", "4.10 to 4.10", "≤ 4.5", "void"] in rows(text)
    assert "met |" not in text


def test_checks_that_are_all_zero_are_listed(tmp_path: Path) -> None:
    text = report(tmp_path, saturation())
    assert "Every check of every run is 0." in text
    assert "Checked and 0, all of them: errors, undelivered." in text


def test_cpu_time_stands_by_process_with_the_sum_of_the_servers(tmp_path: Path) -> None:
    table = rows(report(tmp_path, saturation(), history(), floors()))
    assert ["saturation", "message", "90", "60", "20", "0.250", "170", "50"] in table
    assert ["history", "page", "–", "300", "150", "–", "450", "80"] in table
    assert [row[1:] for row in table if row[0].startswith("floors")] == [
        ["message", "102", "50", "7", "–", "159", "40"]
    ]


def test_saturation_is_compared_with_the_floors(tmp_path: Path) -> None:
    text = report(tmp_path, saturation(), floors())
    assert "The servers use 1.07 × the floors' CPU time" in text
    assert "Saturation reaches 0.916 × the messages of the echo" in text


def test_each_run_of_saturation_is_held_against_the_floors_of_its_own_turns(tmp_path: Path) -> None:
    _, compared = completed([floors(cpu_us=(170.25, 113.5, 340.5)), saturation()])
    assert [run.figures["server_cpu_to_floor_ratio"] for run in compared.runs] == [1.0, 1.5, 0.5]
    assert "The servers use 1 × the floors' CPU time" in report(
        tmp_path, saturation(), floors(cpu_us=(170.25, 113.5, 340.5))
    )


def test_a_figure_that_a_workload_brings_itself_is_kept() -> None:
    run = Run(workload="growth", figures={"server_cpu_us": 7.0}, cpu_us={"broker": 1.0, "driver": 2.0})
    (summary,) = completed([Summary(workload="growth", runs=[run])])
    assert summary.figures == {"server_cpu_us": 7.0}


def test_the_bars_are_as_long_as_their_values(tmp_path: Path) -> None:
    report(tmp_path, saturation(), floors())
    root = ElementTree.parse(tmp_path / "chart.svg").getroot()
    bars = [rect for rect in root.iter(f"{SVG}rect") if "data-value" in rect.attrib]
    stacked, plain = bars[:-3], bars[-3:]
    assert [float(bar.attrib["data-value"]) for bar in plain] == [9_500, 8_700, 8_500]
    assert [bar.attrib["data-role"] for bar in stacked][:4] == ["broker", "service", "postgresql", "driver"]
    assert len(stacked) == 4 + 5
    for group in (stacked, plain):
        scale = float(group[0].attrib["width"]) / float(group[0].attrib["data-value"])
        for bar in group:
            expected = float(bar.attrib["data-value"]) * scale
            assert float(bar.attrib["width"]) == pytest.approx(expected, abs=0.02)
            assert float(bar.attrib["x"]) + float(bar.attrib["width"]) <= 900


def test_each_part_of_a_stack_begins_where_the_one_before_ends(tmp_path: Path) -> None:
    report(tmp_path, saturation())
    root = ElementTree.parse(tmp_path / "chart.svg").getroot()
    parts = [rect for rect in root.iter(f"{SVG}rect") if "data-value" in rect.attrib][:5]
    for before, after in pairwise(parts):
        end = float(before.attrib["x"]) + float(before.attrib["width"])
        assert float(after.attrib["x"]) == pytest.approx(end, abs=0.02)


@pytest.mark.parametrize("summaries", [(saturation(),), (floors(),), (floors(), history())])
def test_one_of_the_drawn_workloads_is_enough_for_a_chart(
    tmp_path: Path, summaries: tuple[Summary, ...]
) -> None:
    assert "](chart.svg)" in report(tmp_path, *summaries)
    assert ElementTree.parse(tmp_path / "chart.svg").getroot().tag == f"{SVG}svg"


def test_without_the_drawn_workloads_there_is_no_chart_not_even_an_old_one(tmp_path: Path) -> None:
    report(tmp_path, saturation())
    assert "chart.svg" not in report(tmp_path, history())
    assert not (tmp_path / "chart.svg").exists()


def test_a_folder_is_made_and_a_report_may_be_empty(tmp_path: Path) -> None:
    assert "0 of 0 targets met." in report(tmp_path / "new" / "folder")


def test_a_run_that_measured_no_cpu_time_and_no_messages_can_be_drawn(tmp_path: Path) -> None:
    run = Run(workload="saturation", figures={"messages_per_second": 0.0})
    text = report(tmp_path, Summary(workload="saturation", runs=[run]))
    assert "Nothing was checked." in text
    ElementTree.parse(tmp_path / "chart.svg")


def test_the_terminal_shows_targets_cpu_time_and_bad_checks_in_capitals() -> None:
    good = " ".join(printed(saturation(), floors()).split())
    assert good.startswith("saturation (3 runs) messages/s 8,700 (8,600 to 8,900) target ≥ 8,500: met")
    assert "server CPU to floor (ratio) 1.07" in good
    assert "CPU in µs for each message: broker 90, service 60, PostgreSQL 20, Redis 0.250, driver 50" in good
    assert "all checks are 0" in good
    bad = printed(history(pages=1_900.0, checks={"errors": 0, "wrong_pages": 2}))
    assert "target ≥ 2,000: missed" in bad
    assert "CHECKS NOT 0: WRONG_PAGES 2" in bad


def test_the_machine_is_read_from_proc() -> None:
    core = "processor\t: {}\nmodel name\t: A  processor \nflags\t\t: fpu\n\n"
    assert processor_of(core.format(0) + core.format(1)) == ("A  processor", 2)
    assert processor_of("processor\t: 0\nCPU part\t: 0xd0c\n") == ("", 1)
    assert memory_gib_of("MemTotal:       2097152 kB\nMemFree: 1 kB\n") == 2.0


@pytest.mark.parametrize(
    ("said", "version"),
    [
        ("mosquitto version 2.0.11\n\nmosquitto is an MQTT v5.0 broker.", "2.0.11"),
        ("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)", "15.18"),
        ("Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.3.0", "7.0.15"),
        ("no number", "not found"),
    ],
)
def test_a_version_is_found_in_what_a_program_says(said: str, version: str) -> None:
    assert version_in(said) == version
