"""Measured curves as an SVG: plain text that a browser shows, made without a library."""

from __future__ import annotations

import math
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_WIDTH, _HEIGHT = 720, 360
_LEFT, _RIGHT, _TOP, _BOTTOM = 60, 290, 40, 40
_COLOURS = ("#0b6e4f", "#6bbf59", "#08415c", "#3a86ff", "#a4243b", "#e07a5f")


def lines(title: str, curves: Mapping[str, Sequence[tuple[float, float]]]) -> str:
    """Return a drawing of curves, each of points (x, y) under its name; x is drawn by its magnitude, y from 0."""
    points = [point for curve in curves.values() for point in curve]
    xs, top = sorted({x for x, _ in points}), _round_up(max(y for _, y in points))
    place = _Place(math.log10(xs[0]), math.log10(xs[-1]), top)
    drawn = [_text(_LEFT, 20, title, size=14)]
    for mark in range(5):
        drawn += _level(top * mark / 4, place)
    drawn += [_text(place.x(x), _HEIGHT - 15, f"{x:,.0f}", anchor="middle") for x in xs]
    for number, (name, curve) in enumerate(curves.items()):
        drawn += _curve(name, curve, place, _COLOURS[number % len(_COLOURS)], _TOP + 10 + 22 * number)
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif">'
    return "\n".join((head, f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>', *drawn, "</svg>\n"))


class _Place:
    """Where a point is on the drawing.

    Args:
        first, last: the decimal logarithms of the ends of the x axis.
        top: the highest y.
    """

    def __init__(self, first: float, last: float, top: float) -> None:
        self._first, self._width, self._top = first, (last - first) or 1, top

    def x(self, value: float) -> float:
        return _LEFT + (math.log10(value) - self._first) / self._width * (_WIDTH - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        return _HEIGHT - _BOTTOM - value / self._top * (_HEIGHT - _TOP - _BOTTOM)


def _level(value: float, place: _Place) -> list[str]:
    y = place.y(value)
    rule = f'<path d="M{_LEFT} {y:.1f}H{_WIDTH - _RIGHT}" stroke="#ddd"/>'
    return [rule, _text(_LEFT - 8, y + 4, f"{value:g}", anchor="end")]


def _curve(name: str, curve: Sequence[tuple[float, float]], place: _Place, colour: str, label: float) -> list[str]:
    path = " ".join(f"{place.x(x):.1f},{place.y(y):.1f}" for x, y in curve)
    dots = [f'<circle cx="{place.x(x):.1f}" cy="{place.y(y):.1f}" r="3" fill="{colour}"/>' for x, y in curve]
    line = f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>'
    return [line, *dots, _text(_WIDTH - _RIGHT + 20, label, name, colour=colour)]


def _text(x: float, y: float, text: str, *, size: int = 11, anchor: str = "start", colour: str = "#222") -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" fill="{colour}">{escape(text)}</text>'
    )


def _round_up(value: float) -> float:
    """Return the next 1, 2, 4 or 8 times a power of ten, so that quarters of it are short numbers."""
    power = 10.0 ** math.floor(math.log10(value))
    return next(power * step for step in (1, 2, 4, 8, 10) if power * step >= value)
