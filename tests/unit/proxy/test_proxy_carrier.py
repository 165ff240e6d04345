"""Windows of streams grow with a reader that keeps up, and only then."""

from __future__ import annotations

from onetrip.proxy.carrier import GROWTH_TIME, MAX_WINDOW, Window


def grow(window: Window, *, seconds: float, start: float = 0.0) -> int:
    """Take two windows within some time; return by how much it should grow."""
    size = window.size
    assert window.note(size, start) == 0
    return window.note(size, start + seconds)


def test_quick_reader_doubles_its_window():
    window = Window(1000)
    assert grow(window, seconds=GROWTH_TIME / 2) == 1000


def test_slow_reader_keeps_its_window():
    assert grow(Window(1000), seconds=GROWTH_TIME * 2) == 0


def test_growth_starts_anew_after_each_look():
    window = Window(1000)
    assert grow(window, seconds=GROWTH_TIME * 2) == 0
    assert grow(window, seconds=0.1, start=100.0) == 1000


def test_growth_ends_at_the_largest_window():
    window = Window(MAX_WINDOW - 10)
    assert grow(window, seconds=0.1) == 10
    window.size = MAX_WINDOW
    assert grow(window, seconds=0.1) == 0
