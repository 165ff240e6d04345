"""Flags of projects: what each key is, and what it is for one targeting key. Pure.

| key | types | value |
|---|---|---|
| `<project>.placement` | boolean, string | whether (`smart` or `off`) placement is on for the key |
| `<project>.share` | float | share of the requests that it is on for |
| `<project>.hint` | string | region that the project is pinned to, or "" |

Who takes part is the arithmetic of the node itself (`onetrip.place.arms`): with the request's
`X-Request-Id` as targeting key the flag says what the edge does with that request, but for the
control group.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from openfeature.exception import (
    FlagNotFoundError,
    TargetingKeyMissingError,
    TypeMismatchError,
)
from openfeature.flag_evaluation import Reason

from onetrip.place.arms import unit_hash

PLACEMENT, SHARE, HINT = "placement", "share", "hint"
"""What a flag of a project can be about."""

SMART, OFF = "smart", "off"
"""Modes, and the variants of `placement`."""


@dataclass(frozen=True, slots=True)
class Toggle:
    """The policy of one project, as far as flags tell it."""

    mode: str
    share: float = 1.0
    hint: str = ""

    @property
    def effective_share(self) -> float:
        """Share of the requests that placement is on for, 0-1."""
        return self.share if self.mode == SMART else 0.0


@dataclass(frozen=True, slots=True)
class Evaluated:
    """A value, the name it goes by, and why it is this one."""

    value: bool | str | float
    variant: str
    reason: Reason


def evaluate(
    toggles: Mapping[str, Toggle], key: str, kind: type, targeting_key: str | None
) -> Evaluated:
    """Return a flag's value.

    Args:
        kind: wanted type of the value: `bool`, `str` or `float`.
        targeting_key: whom or what it is for; only a share between 0 and 1 needs one.

    Raises:
        FlagNotFoundError: no project of this name, or it has no such flag.
        TypeMismatchError: the flag has values of another type.
        TargetingKeyMissingError: the value depends on the targeting key.
    """
    project, _, what = key.rpartition(".")
    toggle = toggles.get(project)
    if toggle is None or what not in (PLACEMENT, SHARE, HINT):
        raise FlagNotFoundError(
            f"no flag {key!r}: it is not PROJECT.{PLACEMENT}, {SHARE} or {HINT}"
        )
    if what == PLACEMENT and kind in (bool, str):
        return _placement(toggle, kind, targeting_key)
    if what == SHARE and kind is float:
        share = toggle.effective_share
        return Evaluated(share, f"{share:g}", Reason.STATIC)
    if what == HINT and kind is str:
        return Evaluated(toggle.hint, toggle.hint or "none", Reason.STATIC)
    raise TypeMismatchError(f"flag {key!r} has no {kind.__name__} value")


def takes_part(share: float, targeting_key: str) -> bool:
    """Tell whether placement is on for a key; a growing share only adds keys."""
    return unit_hash(targeting_key.encode()) >= 1.0 - share


def _placement(toggle: Toggle, kind: type, targeting_key: str | None) -> Evaluated:
    share, reason = toggle.effective_share, Reason.STATIC
    is_on = share > 0.0
    if 0.0 < share < 1.0:
        if not targeting_key:
            raise TargetingKeyMissingError(f"placement is on for {share:g} of the targeting keys")
        is_on, reason = takes_part(share, targeting_key), Reason.SPLIT
    variant = SMART if is_on else OFF
    return Evaluated(is_on if kind is bool else variant, variant, reason)
