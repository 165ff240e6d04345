"""What a statement of SQL would do, as far as that decides where it may run.

Every doubt falls to the safe side: what has no sure reading is a write, may end a transaction, and
belongs to the session's own connection.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto


class Act(Enum):
    """What a statement is, as far as it decides where it runs."""

    READ = auto()
    BEGIN = auto()
    """Begins a transaction, with the session's own access mode."""
    BEGIN_READ_ONLY = auto()
    BEGIN_READ_WRITE = auto()
    """Also where only a primary can: serializable."""
    NEUTRAL = auto()
    """Neither reads nor writes rows: settings, savepoints, the end of a transaction."""
    WRITE = auto()
    """Writes, or may."""


@dataclass(frozen=True, slots=True)
class Setting:
    """A session parameter that a statement changes.

    Attributes:
        name: lower case; "" for all of them.
        sql: the statement that sets it again, or None where it goes back to its default.
    """

    name: str
    sql: str | None


@dataclass(frozen=True, slots=True)
class Intent:
    """What a statement, or several, would do.

    Attributes:
        may_end: a transaction may be over behind it.
        pins: it may leave state in the session that cannot be made again elsewhere.
        may_copy: it may make the server expect COPY data.
        settings: parameters of the session that it changes, in order.
        deallocates: the prepared statement that it drops; "" for all, None for none.
        discards: it clears the whole session.
        undoes: it goes back to a savepoint.
        is_lazy: commits may stop waiting for the disk, in its transaction or from now on.
    """

    act: Act
    may_end: bool = False
    pins: bool = False
    may_copy: bool = False
    settings: tuple[Setting, ...] = ()
    deallocates: str | None = None
    discards: bool = False
    undoes: bool = False
    is_lazy: bool = False


DOUBTFUL = Intent(Act.WRITE, may_end=True, pins=True, may_copy=True, is_lazy=True)
"""What is assumed of text that has no sure reading."""

EMPTY = Intent(Act.NEUTRAL)


BEGINS = frozenset({Act.BEGIN, Act.BEGIN_READ_ONLY, Act.BEGIN_READ_WRITE})


def joined(intents: Sequence[Intent]) -> Intent:
    """Return what several statements in a row would do together."""
    intents = [intent for intent in intents if intent is not EMPTY]
    if len(intents) == 1:
        return intents[0]
    if not intents:
        return EMPTY
    return Intent(
        _joined_act([intent.act for intent in intents]),
        # Statements sent as one are a transaction of their own.
        may_end=any(intent.may_end for intent in intents),
        pins=any(intent.pins for intent in intents),
        may_copy=any(intent.may_copy for intent in intents),
        settings=tuple(setting for intent in intents for setting in intent.settings),
        deallocates=_joined_names([intent.deallocates for intent in intents]),
        discards=any(intent.discards for intent in intents),
        undoes=any(intent.undoes for intent in intents),
        is_lazy=any(intent.is_lazy for intent in intents),
    )


def _joined_act(acts: list[Act]) -> Act:
    if Act.WRITE in acts:
        return Act.WRITE
    if all(act is Act.READ for act in acts):
        return Act.READ
    begins = BEGINS & set(acts)
    if not begins:
        return Act.NEUTRAL
    # Only a transaction that begins first and is not over within the text is one access mode.
    is_plain = acts[0] in begins and all(act is Act.READ for act in acts[1:])
    return acts[0] if is_plain else Act.WRITE


def _joined_names(names: list[str | None]) -> str | None:
    found = {name for name in names if name is not None}
    return (found.pop() if len(found) == 1 else "") if found else None
