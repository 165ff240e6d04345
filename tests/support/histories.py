"""Checks what clients saw of a database against what a session promises, from their history alone.

Two kinds of history. *Registers* are written with versions that grow, so a read shows at once how
old it is; a check costs a step an operation. *Lists* grow by appending values that nobody else
appends, as in Elle (Kingsbury, Alvaro: "Elle: Inferring Isolation Anomalies from Experimental
Observations", VLDB 2020): a read of the whole list shows its past, so the order of all appends is
known without trusting anybody's numbers, and a database that lost or invented something is found.

An operation without an answer may have happened or not, and promises its client nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

OWN = "read-your-writes"
SEEN = "monotonic-reads"
LOST = "lost-append"
FORKED = "forked-list"
PHANTOM = "phantom"
DOUBLE = "double"


@dataclass(frozen=True, slots=True)
class RegisterOp:
    """One operation on a register that was answered; a session's are in the order it sent them.

    Attributes:
        version: what the write made, or what the read showed; 0 before any write.
    """

    session: int
    key: str
    is_write: bool
    version: int


@dataclass(frozen=True, slots=True)
class ListOp:
    """One operation on a list.

    Attributes:
        value: what it appended; 0 for a read.
        shown: what a read showed.
        is_answered: the client had an answer.
    """

    session: int
    key: str
    value: int = 0
    shown: tuple[int, ...] = ()
    is_answered: bool = True


@dataclass(frozen=True, slots=True)
class Violation:
    """One operation that shows what it must not.

    Attributes:
        kind: which promise it breaks.
        place: number of the operation in the history.
    """

    kind: str
    place: int
    detail: str


class RegisterCheck:
    """Checks a history of registers operation by operation, in memory for the present alone."""

    def __init__(self) -> None:
        self.operations = 0
        self.counts: Counter[str] = Counter()
        self._floors: dict[tuple[int, str], tuple[int, bool]] = {}

    def add(self, op: RegisterOp) -> Violation | None:
        """Take the next operation of its session; return what it breaks."""
        place, self.operations = self.operations, self.operations + 1
        floor, is_own = self._floors.get((op.session, op.key), (0, False))
        if not op.is_write and op.version < floor:
            kind = OWN if is_own else SEEN
            self.counts[kind] += 1
            detail = f"session {op.session}: {op.key} is {op.version} after {floor}"
            return Violation(kind, place, detail)
        if op.version > floor or op.is_write:
            self._floors[op.session, op.key] = (max(op.version, floor), op.is_write)
        return None


def check_registers(history: Iterable[RegisterOp]) -> list[Violation]:
    """Return every read of a register that shows less than its session wrote or saw."""
    check = RegisterCheck()
    return [found for op in history if (found := check.add(op)) is not None]


def check_lists(history: Sequence[ListOp]) -> list[Violation]:
    """Return every operation on a list that shows what no session, or no database, may show."""
    found: list[Violation] = []
    appended = {op.value: op.key for op in history if op.value}
    for key in dict.fromkeys(op.key for op in history):
        places = [n for n, op in enumerate(history) if op.key == key]
        longest = max((history[n].shown for n in places), key=len)
        for place in places:
            found += _check_shown(history[place], place, longest, appended)
        found += _check_sessions(history, places)
        found += _check_lost(history, places, longest)
    return sorted(found, key=lambda each: each.place)


def _check_shown(
    op: ListOp, place: int, longest: tuple[int, ...], appended: dict[int, str]
) -> Iterable[Violation]:
    """Check one read by itself: nothing invented, nothing twice, no second past."""
    if strangers := [value for value in op.shown if appended.get(value) != op.key]:
        yield Violation(PHANTOM, place, f"{op.key} has {strangers}, which nobody appended")
    if len(set(op.shown)) != len(op.shown):
        yield Violation(DOUBLE, place, f"{op.key} is {op.shown}")
    if op.shown != longest[: len(op.shown)]:
        yield Violation(FORKED, place, f"{op.key} was {longest} and is {op.shown}")


def _check_sessions(history: Sequence[ListOp], places: Sequence[int]) -> Iterable[Violation]:
    """Check each session's operations on one list in their order."""
    own: dict[int, set[int]] = {}
    seen: dict[int, set[int]] = {}
    for place in places:
        op = history[place]
        if op.value:
            if op.is_answered:
                own.setdefault(op.session, set()).add(op.value)
            continue
        if not op.is_answered:
            continue
        shown = set(op.shown)
        if missing := own.get(op.session, set()) - shown:
            yield Violation(OWN, place, f"session {op.session}: {op.key} lacks own {missing}")
        if missing := seen.get(op.session, set()) - shown - own.get(op.session, set()):
            yield Violation(SEEN, place, f"session {op.session}: {op.key} lacks seen {missing}")
        seen.setdefault(op.session, set()).update(shown)


def _check_lost(
    history: Sequence[ListOp], places: Sequence[int], longest: tuple[int, ...]
) -> Iterable[Violation]:
    """Check that what was answered for is there when somebody reads after everything is over.

    Only where the last operation on the list is a read: nobody can miss what nobody looked for.
    """
    last = history[places[-1]]
    if last.value or not last.is_answered:
        return
    for place in places:
        op = history[place]
        if op.value and op.is_answered and op.value not in longest:
            yield Violation(LOST, place, f"{op.key} lacks {op.value} in the end")
