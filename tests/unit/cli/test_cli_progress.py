"""Progress is for people at a terminal, and for nobody else."""

from __future__ import annotations

import sys

import pytest

from onetrip.cli.progress import Progress


class Terminal:
    """A standard error that is a terminal, or not."""

    def __init__(self, is_terminal: bool) -> None:
        self.is_terminal = is_terminal
        self.written = ""

    def isatty(self) -> bool:
        return self.is_terminal

    def write(self, text: str) -> int:
        self.written += text
        return len(text)

    def flush(self) -> None:
        pass


@pytest.mark.parametrize(
    ("is_terminal", "is_quiet", "is_shown"),
    [(True, False, True), (True, True, False), (False, False, False)],
)
def test_bar_is_shown_on_a_terminal_alone(monkeypatch, is_terminal, is_quiet, is_shown):
    terminal = Terminal(is_terminal)
    monkeypatch.setattr(sys, "stderr", terminal)
    with Progress("deployment 3f9c", is_quiet=is_quiet) as progress:
        progress.show(1, 2, "checking")
        progress.show(2, 2, "ready")
    assert ("deployment 3f9c" in terminal.written) is is_shown
    assert ("2/2 ready" in terminal.written) is is_shown
