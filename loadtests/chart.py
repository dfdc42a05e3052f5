"""The chart: CPU time of a message by process, and messages a second. Draws what it is given; pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape, quoteattr

WIDTH, HEIGHT = 900, 362
_LEFT, _LEFT_WIDTH = 24, 530
_RIGHT, _RIGHT_WIDTH = 610, 266
_HEADER_Y, _FIRST_BAR_Y, _STEP, _BAR = 36, 76, 62, 26
_LEGEND_Y, _LEGEND_ROW = 228, 19
_LEGEND_COLUMNS = (330, 440)
_CHARACTER = 7.5
"""Width of a digit, a little too large: fonts differ."""

# White digits are readable on each of them, and each of them on both backgrounds.
_COLOURS = {
    "broker": "#2a6fc9",
    "service": "#c2551d",
    "postgresql": "#0f8060",
    "redis": "#c8352f",
    "connections": "#7350c0",
}
_OTHER = "#73736e"

# A card of its own, so that the page's background does not matter.
_STYLE = """
text { font: 13px system-ui, "Segoe UI", "DejaVu Sans", sans-serif; fill: #1f1f1d; }
.header { font-weight: 600; font-size: 15px; }
.muted { fill: #5c5c57; }
.inside { fill: #ffffff; font-size: 12px; }
.card { fill: #ffffff; stroke: #d6d6d0; }
.bar { stroke: #ffffff; stroke-width: 1; }
.aside { fill-opacity: 0.5; }
.bound { stroke: #1f1f1d; stroke-width: 1.5; stroke-dasharray: 4 3; }
@media (prefers-color-scheme: dark) {
text { fill: #f0f0ec; }
.muted { fill: #b4b4ad; }
.inside { fill: #ffffff; }
.card { fill: #1c1c1a; stroke: #45453f; }
.bar { stroke: #1c1c1a; }
.bound { stroke: #f0f0ec; }
}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One process's share of a stack."""

    role: str
    name: str
    value: float
    text: str
    """The value as it is to be read."""
    is_aside: bool = False
    """Paler, because it does not count against the bound; last of its stack."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """A bar of parts, one behind the other."""

    name: str
    column: str
    """Short name, heads the values in the legend."""
    total: str
    parts: Sequence[Part]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """A plain bar."""

    role: str
    name: str
    value: float
    text: str
    is_aside: bool = False
    """Paler, because it was not measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """A line across the stacks."""

    value: float
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """Everything that is drawn."""

    stacks_header: str
    stacks: Sequence[Stack]
    bound: Bound | None
    bars_header: str
    bars: Sequence[Bar]
    notes: Sequence[str]
    """Lines below the bars."""


def draw(chart: Chart) -> str:
    """The chart as a text of SVG."""
    summary = "; ".join(
        [f"{stack.name}: {stack.total}" for stack in chart.stacks]
        + [f"{bar.name}: {bar.text}" for bar in chart.bars]
    )
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}"'
        f' viewBox="0 0 {WIDTH} {HEIGHT}" role="img">',
        f"<title>{escape(summary)}</title>",
        f"<style>{_STYLE}</style>",
        f'<rect class="card" x="0.5" y="0.5" width="{WIDTH - 1}" height="{HEIGHT - 1}" rx="8"/>',
    ]
    if chart.stacks:
        lines += _stacks(chart)
    if chart.bars:
        lines += _bars(chart)
    return "\n".join([*lines, "</svg>", ""])


def _stacks(chart: Chart) -> list[str]:
    lines = [_text(chart.stacks_header, _LEFT, _HEADER_Y, "header")]
    totals = [sum(part.value for part in stack.parts) for stack in chart.stacks]
    scale = _scale([*totals, chart.bound.value if chart.bound else 0.0], _LEFT_WIDTH)
    for place, stack in enumerate(chart.stacks):
        y = _FIRST_BAR_Y + place * _STEP
        lines.append(_text(stack.name, _LEFT, y - 8))
        lines.append(_text(stack.total, _LEFT + _LEFT_WIDTH, y - 8, "muted", anchor="end"))
        x = float(_LEFT)
        for part in stack.parts:
            width = part.value * scale
            lines.append(_rect(part, x, y, width))
            # The bound may cross what is aside.
            if width > len(part.text) * _CHARACTER + 4 and not part.is_aside:
                lines.append(_text(part.text, x + width / 2, y + 17.5, "inside", anchor="middle"))
            x += width
    if chart.bound:
        lines += _bound(chart.bound, _LEFT + chart.bound.value * scale, len(chart.stacks))
    return lines + _legend(chart.stacks)


def _bound(bound: Bound, x: float, stacks: int) -> list[str]:
    bottom = _FIRST_BAR_Y + (stacks - 1) * _STEP + _BAR
    ticks = [_FIRST_BAR_Y + place * _STEP for place in range(stacks)]
    # Only beside the bars: between them stand their names.
    lines = [
        f'<line class="bound" x1="{x:.2f}" x2="{x:.2f}" y1="{y - 2}" y2="{y + _BAR + 5}"/>' for y in ticks
    ]
    is_far_right = x > _LEFT + _LEFT_WIDTH * 0.75
    is_far_left = x < _LEFT + _LEFT_WIDTH * 0.25
    anchor = "end" if is_far_right else "start" if is_far_left else "middle"
    return [*lines, _text(bound.text, x, bottom + 21, "muted", anchor=anchor)]


def _legend(stacks: Sequence[Stack]) -> list[str]:
    parts = sorted((part for stack in stacks for part in stack.parts), key=lambda part: part.is_aside)
    aside = {part.role for part in parts if part.is_aside}
    names = {part.role: part.name for part in parts}
    lines = [
        _text(stack.column, x, _LEGEND_Y, "muted", anchor="end")
        for stack, x in zip(stacks, _LEGEND_COLUMNS, strict=False)
    ]
    for row, (role, name) in enumerate(names.items(), start=1):
        y = _LEGEND_Y + row * _LEGEND_ROW
        style = "aside" if role in aside else "key"
        lines.append(
            f'<rect class="{style}" fill="{_colour(role)}" x="{_LEFT}" y="{y - 10}"'
            ' width="11" height="11" rx="2"/>'
        )
        lines.append(_text(name, _LEFT + 19, y))
        for stack, x in zip(stacks, _LEGEND_COLUMNS, strict=False):
            text = next((part.text for part in stack.parts if part.role == role), "–")
            lines.append(_text(text, x, y, anchor="end"))
    return lines


def _bars(chart: Chart) -> list[str]:
    lines = [_text(chart.bars_header, _RIGHT, _HEADER_Y, "header")]
    scale = _scale([bar.value for bar in chart.bars], _RIGHT_WIDTH)
    for place, bar in enumerate(chart.bars):
        y = _FIRST_BAR_Y + place * _STEP
        lines.append(_text(bar.name, _RIGHT, y - 8))
        lines.append(_text(bar.text, _RIGHT + _RIGHT_WIDTH, y - 8, anchor="end"))
        lines.append(_rect(bar, _RIGHT, y, bar.value * scale))
    y = _FIRST_BAR_Y + len(chart.bars) * _STEP
    return lines + [
        _text(note, _RIGHT, y + row * _LEGEND_ROW, "muted") for row, note in enumerate(chart.notes)
    ]


def _scale(values: Sequence[float], width: float) -> float:
    largest = max(values)
    return width / largest if largest > 0 else 0.0


def _colour(role: str) -> str:
    return _COLOURS.get(role, _OTHER)


def _rect(of: Part | Bar, x: float, y: float, width: float) -> str:
    attributes: Mapping[str, object] = {
        "class": "bar aside" if of.is_aside else "bar",
        "data-role": of.role,
        "data-value": f"{of.value:.6g}",
        "x": f"{x:.2f}",
        "y": y,
        "width": f"{width:.2f}",
        "height": _BAR,
        "fill": _colour(of.role),
    }
    written = " ".join(f"{key}={quoteattr(str(content))}" for key, content in attributes.items())
    return f"<rect {written}><title>{escape(f'{of.name}: {of.text}')}</title></rect>"


def _text(text: str, x: float, y: float, style: str = "plain", *, anchor: str = "start") -> str:
    return f'<text class="{style}" x="{x:g}" y="{y:g}" text-anchor="{anchor}">{escape(text)}</text>'
