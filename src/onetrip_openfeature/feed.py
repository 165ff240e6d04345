"""Keeps toggles fresh from a node's admin API: on a thread of its own, by its stream or by polling.

Whoever reads takes one reference to an immutable mapping, and never waits for the network.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from random import Random
from types import MappingProxyType

from msgspec import Struct

from onetrip.cli.client import Client
from onetrip.errors import ApiError, OnetripError
from onetrip_openfeature.flags import Toggle

FIRST_WAIT, LONGEST_WAIT = 0.5, 30.0
"""Waits after failures, s: the first, and the longest; each is twice the one before."""

EVENTS = frozenset(("event", "status", "missed"))
"""Messages of the stream after which a policy may be another."""


class _Placement(Struct):
    mode: str
    hint: str = ""
    share: float = 1.0


class _Project(Struct):
    name: str
    placement: _Placement


class _Projects(Struct):
    projects: list[_Project]


class Feed:
    """The toggles of a node's projects.

    Args:
        project: the only one to read, where the token is for no other; None reads all.
        poll_interval: time between two looks where there is no stream, s.
        stale_after: time without news after which the toggles may be out of date, s.
        now: monotonic time, s.
        on_fresh: told the keys whose toggles changed, after each look that succeeded.
        on_failed: told why a look failed, and whether the toggles are stale by now.

    Attributes:
        toggles: by project; replaced, never changed.
        is_loaded: whether a look has succeeded.
        is_stale: whether there was no news for `stale_after`.
    """

    def __init__(
        self,
        client: Client,
        project: str | None,
        *,
        poll_interval: float,
        stale_after: float,
        now: Callable[[], float],
        rng: Random,
        on_fresh: Callable[[list[str]], None],
        on_failed: Callable[[str, bool], None],
    ) -> None:
        self.toggles: Mapping[str, Toggle] = MappingProxyType({})
        self.is_loaded = self.is_stale = False
        self._client = client
        self._project = project
        self._poll_interval = poll_interval
        self._stale_after = stale_after
        self._now = now
        self._rng = rng
        self._on_fresh = on_fresh
        self._on_failed = on_failed
        self._heard_at = now()
        self._stopping = threading.Event()
        self._looked = threading.Event()
        self._thread = threading.Thread(target=self._run, name="onetrip-openfeature", daemon=True)

    def start(self, timeout: float) -> None:
        """Begin, and wait for the end of the first look, `timeout` s at most."""
        self._thread.start()
        self._looked.wait(timeout)

    def stop(self) -> None:
        """End; a thread that waits for the node ends by itself once that answers."""
        self._stopping.set()

    def _run(self) -> None:
        wait, streams = FIRST_WAIT, True
        while not self._stopping.is_set():
            try:
                self._look()
                wait = FIRST_WAIT
                streams = self._follow() if streams else self._poll()
            except OnetripError as error:
                self._fail(str(error))
                self._stopping.wait(wait * self._rng.uniform(0.5, 1.0))
                wait = min(LONGEST_WAIT, 2 * wait)
            self._looked.set()

    def _look(self) -> None:
        """Read the toggles once."""
        client = self._client
        if self._project is None:
            found = client.get(("projects",), _Projects, {}).projects
        else:
            found = [client.get(("projects", self._project), _Project, {})]
        new = {p.name: Toggle(p.placement.mode, p.placement.share, p.placement.hint) for p in found}
        old, self.toggles = self.toggles, MappingProxyType(new)
        changed = sorted(n for n in old.keys() | new.keys() if old.get(n) != new.get(n))
        self.is_loaded, self.is_stale = True, False
        self._heard_at = self._now()
        if not self._stopping.is_set():
            self._on_fresh(changed)
        self._looked.set()

    def _follow(self) -> bool:
        """Look whenever the stream tells of something; False where there is no stream to be had."""
        try:
            for name in self._messages():
                self._heard_at = self._now()
                if self._stopping.is_set():
                    return True
                if name in EVENTS:
                    self._look()
        except ApiError:
            return False  # the token is for one project, or there are too many streams
        return True  # it ended as streams do; the next one begins with a look

    def _messages(self) -> Iterator[str]:
        """Yield the name of each message of the stream, "" for a sign of life."""
        name = ""
        for line in self._client.lines(("stream",)):
            if line.startswith("event: "):
                name = line.removeprefix("event: ")
            elif not line:
                yield name
                name = ""

    def _poll(self) -> bool:
        """Wait for the next look; True to try the stream again, which may have room by then."""
        self._stopping.wait(self._poll_interval)
        return self._project is None

    def _fail(self, reason: str) -> None:
        self.is_stale = self._now() - self._heard_at >= self._stale_after
        if not self._stopping.is_set():
            self._on_failed(reason, self.is_stale)
