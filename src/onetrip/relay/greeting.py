"""What a new session is told of its server: the parameters that it reports.

They are those of a connection to the primary with the settings that the client named. They are
asked for once for each kind of session, so most sessions begin without a trip to the database.
"""

from __future__ import annotations

from onetrip.errors import OnetripError, UpstreamError
from onetrip.relay.admission import RefusedError
from onetrip.relay.session_parts import SessionParts, sqlstate
from onetrip.relay.session_state import SessionState, differences
from onetrip.timing import Clock

MAX_KNOWN = 256
"""Most kinds of sessions that are remembered."""

MAX_AGE = 60.0
"""Longest time for which they are, s: a server that was upgraded reports something else."""

_Key = tuple[object, ...]


class Greeter:
    """Knows what sessions are told.

    Args:
        timeout: longest wait for the primary to answer, s.
    """

    def __init__(self, clock: Clock, *, timeout: float) -> None:
        self._clock = clock
        self._timeout = timeout
        self._known: dict[_Key, tuple[float, dict[str, str]]] = {}

    async def reports(self, parts: SessionParts, state: SessionState) -> dict[str, str]:
        """Return the parameters that a session with these settings is told.

        Raises:
            RefusedError: the primary refuses the session, or there is none.
        """
        key = parts.account.name, parts.database, tuple(sorted(state.settings.items()))
        asked_at, found = self._known.get(key, (float("-inf"), {}))
        if self._clock.now() - asked_at < MAX_AGE:
            return found
        try:
            found = await self._ask(parts, state)
        except OnetripError as error:
            raise RefusedError(sqlstate(error), str(error)) from error
        if len(self._known) >= MAX_KNOWN:
            del self._known[next(iter(self._known))]
        self._known[key] = self._clock.now(), found
        return found

    async def _ask(self, parts: SessionParts, state: SessionState) -> dict[str, str]:
        link = await parts.primary()
        found = dict(link.started.parameters)
        sql = differences(state.settings, link.settings)
        try:
            if sql:
                answer = await link.query(sql, self._timeout)
                if answer.code:
                    raise RefusedError(answer.code, "the server refuses a setting of the start")
                link.settings = dict(state.settings)
                found |= answer.reports
        except TimeoutError as error:
            link.abort()
            raise UpstreamError(f"{link.name} does not answer") from error
        except RefusedError:
            # Some of them may have been made.
            link.was_stateful = True
            raise
        finally:
            parts.servers.release(link)
        return found
