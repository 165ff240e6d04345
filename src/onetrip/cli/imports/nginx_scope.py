"""Which directives hold in a block: its own, and those it inherits."""

from __future__ import annotations

from collections.abc import Iterator

from onetrip.cli.imports.nginx_files import Directive


class Scope:
    """A block and what is around it.

    Args:
        own: directives that stand in the block.
        outer: the block around it.
    """

    def __init__(self, own: list[Directive], outer: Scope | None = None) -> None:
        self.own = own
        self._outer = outer

    def find(self, name: str) -> Directive | None:
        """Return the directive that holds, or None; where there are several, the first."""
        return next(iter(self.find_all(name)), None)

    def find_all(self, *names: str) -> list[Directive]:
        """Return all that hold: those of the innermost block that has any."""
        found = [each for each in self.own if each.name in names]
        if found or self._outer is None:
            return found
        return self._outer.find_all(*names)

    def mine(self, *names: str) -> Iterator[Directive]:
        """Yield those that stand in the block itself."""
        return (each for each in self.own if each.name in names)
