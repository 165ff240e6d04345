"""Whether a new deployment can serve in a region: its instances answer, its files are here.

A check goes on until everything is well or the time is up, so that instances may still be starting.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from onetrip.errors import OnetripError
from onetrip.probe.base import Network, Probe, ProbeSpec
from onetrip.release.records import CheckRecord

ATTEMPT_TIMEOUT = 5.0
"""Longest time of one health check, s."""

PAUSE = 0.5
"""Between two attempts, s."""

MAX_DETAIL = 300
"""Characters kept of what went wrong."""


class Checker:
    """Checks deployments for one node.

    Args:
        make_probe: makes the health check of an instance.
        bring_assets: has a bundle of files here; raises `OnetripError` while it cannot be had.
    """

    def __init__(
        self,
        network: Network,
        make_probe: Callable[[ProbeSpec, Network], Probe],
        bring_assets: Callable[[str], Awaitable[None]],
    ) -> None:
        self._network = network
        self._make_probe = make_probe
        self._bring_assets = bring_assets

    async def check(self, specs: Sequence[ProbeSpec], assets: str, timeout: float) -> CheckRecord:
        """Return what was found within `timeout` s.

        Args:
            specs: the health check of each instance here.
            assets: name of a bundle, or "".
        """
        clock = self._network.clock
        deadline = clock.now() + timeout
        missing = list(specs)
        while True:
            failure, missing, assets = await self._attempt(missing, assets)
            if not failure:
                return CheckRecord(is_ready=True)
            if clock.now() + PAUSE >= deadline:
                return CheckRecord(is_ready=False, detail=failure[:MAX_DETAIL])
            await clock.sleep(PAUSE)

    async def _attempt(
        self, specs: list[ProbeSpec], assets: str
    ) -> tuple[str, list[ProbeSpec], str]:
        """Return the last failure, and what is still to be checked."""
        failure = ""
        if assets:
            try:
                await self._bring_assets(assets)
                assets = ""
            except OnetripError as error:
                failure = f"assets: {error}"
        still: list[ProbeSpec] = []
        for spec in specs:
            probe = self._make_probe(spec, self._network)
            try:
                await probe.run(ATTEMPT_TIMEOUT)
            except OnetripError as error:
                still.append(spec)
                failure = f"{spec.endpoint}: {error}"
            finally:
                probe.close()
        return failure, still, assets
