"""A node's change to its successor: what is saved and held still meanwhile, and how it ends.

While a successor gets ready, the store must not change under it: what was learned is written
before it starts and not again, and overrides are refused. If it fails, everything goes on.
"""

from __future__ import annotations

from collections.abc import Callable

from onetrip.app.keeping import Keeper
from onetrip.app.notify import Notifier
from onetrip.app.overrides import Overrides
from onetrip.app.succession import Succession, Successor
from onetrip.errors import ApiError, Kind, OnetripError
from onetrip.observe.logs import Log
from onetrip.observe.metrics import Metrics

Tell = Callable[[str, str, str], None]
"""Makes an event: name, subject and detail."""


class Upgrade:
    """Brings the successor of a node up.

    Args:
        stand_down: called once the successor serves; makes this node drain and end.
    """

    def __init__(
        self,
        succession: Succession,
        *,
        keeper: Keeper,
        overrides: Overrides,
        notifier: Notifier,
        metrics: Metrics,
        log: Log,
        tell: Tell,
        stand_down: Callable[[], None],
    ) -> None:
        self._succession = succession
        self._keeper = keeper
        self._overrides = overrides
        self._notifier = notifier
        self._metrics = metrics
        self._log = log
        self._tell = tell
        self._stand_down = stand_down
        self._is_running = False
        self.is_done = False
        """Whether a successor serves."""

    async def run(self, *, is_draining: bool) -> Successor:
        """Start a successor and hand over to it.

        Raises:
            ApiError: kind CONFLICT; it did not get ready and this node goes on, or another upgrade
                is in progress.
        """
        if self._is_running or self.is_done:
            raise ApiError("an upgrade is in progress", kind=Kind.CONFLICT)
        self._is_running = True
        try:
            await self._keeper.save()
            self._hold(True)
            successor = await self._succession.start(is_draining=is_draining)
        except BaseException as error:
            self._hold(False)
            if isinstance(error, OnetripError):
                self._failed(error)
            raise
        finally:
            self._is_running = False
        self.is_done = True
        self._metrics.successions.labels("done").inc()
        self._log.info("app.upgraded", pid=successor.pid, version=successor.version)
        self._notifier.succeeded_by(successor.pid)
        self._stand_down()
        return successor

    def _failed(self, error: OnetripError) -> None:
        self._metrics.successions.labels("failed").inc()
        self._log.error("app.upgrade_failed", reason=str(error))
        self._tell("app.upgrade_failed", "node", str(error))

    def _hold(self, is_held: bool) -> None:
        self._keeper.is_held = self._overrides.is_held = is_held
