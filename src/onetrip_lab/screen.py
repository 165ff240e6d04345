"""The demo's output: good to look at on a terminal, good to read in a log.

Colours and redrawing happen only on a terminal. Elsewhere the same lines are printed once, when
they are final.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import IO

_STYLES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}

Cell = str | tuple[str, str]
"""Text of a table cell, or (text, style)."""


class Screen:
    """Writes lines, tables and one block that is redrawn in place.

    Args:
        out: where to write.
        is_terminal: move the cursor to redraw.
        has_color: use ANSI colours.
    """

    def __init__(self, out: IO[str], *, is_terminal: bool, has_color: bool) -> None:
        self._out = out
        self._is_terminal = is_terminal
        self._has_color = has_color
        self._live_lines = 0

    def paint(self, text: str, style: str) -> str:
        """Return `text` in a style, if colours are used."""
        if not self._has_color or not style:
            return text
        return f"\x1b[{_STYLES[style]}m{text}\x1b[0m"

    def line(self, text: str = "", style: str = "") -> None:
        """Print one line below everything so far."""
        self._live_lines = 0
        self._write(self.paint(text, style) + "\n")

    def heading(self, text: str) -> None:
        """Start a part of the output."""
        self.line()
        self.line(text, "bold")

    def block(self, lines: Sequence[str]) -> None:
        """Print finished lines, in place of the live ones."""
        self._erase()
        self._write("".join(f"{line}\n" for line in lines))

    def live(self, lines: Sequence[str]) -> None:
        """Show lines that the next call of `live` or `block` replaces; nothing in a log."""
        if not self._is_terminal:
            return
        self._erase()
        self._write("".join(f"{line}\n" for line in lines))
        self._live_lines = len(lines)

    def table(self, heads: Sequence[str], rows: Sequence[Sequence[Cell]]) -> list[str]:
        """Return aligned lines; a head that starts with `>` makes its column right-aligned."""
        names = [h.lstrip(">") for h in heads]
        texts = [[_text(cell) for cell in row] for row in rows]
        widths = [max(len(row[i]) for row in [names, *texts]) for i in range(len(names))]
        rights = [h.startswith(">") for h in heads]
        lines = [self._row([(n, "dim") for n in names], widths, rights)]
        return lines + [self._row(row, widths, rights) for row in rows]

    def _row(self, row: Sequence[Cell], widths: list[int], rights: list[bool]) -> str:
        cells = []
        for number, (cell, width, right) in enumerate(zip(row, widths, rights, strict=True)):
            text = _text(cell)
            is_last = number == len(widths) - 1
            padded = text.rjust(width) if right else text if is_last else text.ljust(width)
            cells.append(self.paint(padded, cell[1]) if isinstance(cell, tuple) else padded)
        return "  " + "  ".join(cells)

    def _erase(self) -> None:
        if self._live_lines:
            # Up N lines, then erase to the end of the screen.
            self._write(f"\x1b[{self._live_lines}F\x1b[J")
            self._live_lines = 0

    def _write(self, text: str) -> None:
        self._out.write(text)
        self._out.flush()


def _text(cell: Cell) -> str:
    return cell if isinstance(cell, str) else cell[0]


def ms(seconds: float | None) -> str:
    """Return a time as whole or tenths of ms, "-" when not known."""
    if seconds is None:
        return "-"
    value = seconds * 1000
    return f"{value:.1f}" if value < 100 else f"{value:,.0f}"
