"""What the demo writes on a terminal and into a log."""

from __future__ import annotations

import io

import pytest

from onetrip_lab.screen import Screen, ms


def screen(*, is_terminal: bool = False, has_color: bool = False) -> tuple[Screen, io.StringIO]:
    out = io.StringIO()
    return Screen(out, is_terminal=is_terminal, has_color=has_color), out


def test_log_has_no_escapes_and_no_live_lines() -> None:
    shown, out = screen()
    shown.heading("Act")
    shown.live(["now 1"])
    shown.block(shown.table(["a", ">b"], [["x", ("12", "green")], ["long", "3"]]))
    assert out.getvalue() == "\nAct\n  a      b\n  x     12\n  long   3\n"


def test_live_lines_are_replaced_on_a_terminal() -> None:
    shown, out = screen(is_terminal=True)
    shown.live(["a", "b"])
    shown.live(["c"])
    shown.block(["done"])
    assert out.getvalue() == "a\nb\n\x1b[2F\x1b[Jc\n\x1b[1F\x1b[Jdone\n"


def test_finished_lines_are_never_erased() -> None:
    shown, out = screen(is_terminal=True)
    shown.live(["a"])
    shown.line("kept")
    shown.live(["b"])
    assert "\x1b" not in out.getvalue()


def test_last_column_leaves_no_blanks_behind() -> None:
    shown, _ = screen(has_color=True)
    assert not any("  \x1b[0m" in line for line in shown.table(["a", "b"], [["x", "long"]]))


def test_colour_does_not_disturb_the_alignment() -> None:
    shown, _ = screen(has_color=True)
    plain = shown.table([">n"], [["1"], [("1", "red")]])
    assert plain[2].replace("\x1b[31m", "").replace("\x1b[0m", "") == plain[1]
    assert "\x1b[31m" in plain[2]


@pytest.mark.parametrize(
    ("seconds", "text"), [(None, "-"), (0.0005, "0.5"), (0.0999, "99.9"), (2.5319, "2,532")]
)
def test_times_are_shown_in_ms(seconds: float | None, text: str) -> None:
    assert ms(seconds) == text
