"""What became of each line of an imported configuration.

Every directive ends in exactly one finding; those that no rule spoke of are left out, and told so.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum

from onetrip.cli.render import plain

MAX_SHOWN = 100
"""Characters of a directive that a finding repeats."""


class Outcome(StrEnum):
    """What became of a directive, worst last."""

    CARRIED = "carried"
    """It stands in the result."""
    BUILT_IN = "built in"
    """onetrip does so without being told, or has no use for it."""
    CHANGED = "changed"
    """It is carried over with a difference that a person should know."""
    DECIDE = "decide"
    """A person has to say something that the file does not."""
    LEFT_OUT = "left out"
    """The result does not do it."""


_HEADS = {
    Outcome.LEFT_OUT: "left out",
    Outcome.DECIDE: "to be decided",
    Outcome.CHANGED: "carried over with a difference",
    Outcome.CARRIED: "carried over",
    Outcome.BUILT_IN: "built in, or of no use here",
}


@dataclass(frozen=True, slots=True)
class Place:
    """Where something stands: a file and a line, or a path within a document (line 0)."""

    file: str
    line: int = 0

    def __str__(self) -> str:
        return f"{self.file}:{self.line}" if self.line else self.file


@dataclass(frozen=True, slots=True)
class Finding:
    """What became of one directive."""

    file: str
    line: int
    directive: str
    outcome: Outcome
    detail: str

    def __str__(self) -> str:
        place = Place(self.file, self.line)
        return plain(f"{place}: {self.directive}: {self.detail}")


@dataclass(slots=True)
class Report:
    """The findings of one import, in the order they were made."""

    findings: list[Finding] = field(default_factory=list)

    def add(self, place: Place, directive: str, outcome: Outcome, detail: str) -> None:
        """Note what became of a directive; the same thing is told once."""
        if len(directive) > MAX_SHOWN:
            directive = directive[: MAX_SHOWN - 1] + "…"
        found = Finding(place.file, place.line, directive, outcome, detail)
        if found not in self.findings:
            self.findings.append(found)

    def of(self, outcome: Outcome) -> list[Finding]:
        """Return the findings with this outcome."""
        return [each for each in self.findings if each.outcome is outcome]

    @property
    def is_complete(self) -> bool:
        """Tell whether everything was carried over."""
        return not self.of(Outcome.LEFT_OUT)

    @property
    def is_exact(self) -> bool:
        """Tell whether everything was carried over, and without a difference."""
        return self.is_complete and not self.of(Outcome.CHANGED)


def text(report: Report) -> str:
    """Return the findings for people: what needs them first, then the rest, then the counts."""
    lines: list[str] = []
    for outcome, head in _HEADS.items():
        found = report.of(outcome)
        if found:
            lines += [f"{head}:", *(f"  {each}" for each in found), ""]
    return "\n".join([*lines, summary(report.findings)])


def summary(findings: Iterable[Finding]) -> str:
    """Return how many directives ended how, in one line."""
    outcomes = [each.outcome for each in findings]
    counts = (f"{outcomes.count(one)} {head}" for one, head in _HEADS.items() if one in outcomes)
    return ", ".join(counts) or "the file is empty"
