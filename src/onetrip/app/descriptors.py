"""File descriptors: as many as the system allows, and no more clients than those can serve.

A connection takes one descriptor, and a request takes a second one on the way to its instance. A
node that accepted clients until nothing was left could not serve any of them, nor tell anybody.
"""

from __future__ import annotations

import resource
from dataclasses import replace

from onetrip.observe.logs import Log
from onetrip.proxy.settings import ProxySettings

RESERVE = 24
"""Descriptors for everything else: listeners, logs, the store, probes, the admin API."""


def raise_limit() -> int:
    """Raise this process's soft limit of descriptors to its hard one, and return it.

    The soft limit of 1,024 that many systems start with is for programs that use select(2).
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            soft = hard
        except (OSError, ValueError):
            pass  # an unlimited hard limit is not always allowed as a soft one
    return soft


def clients_for(descriptors: int) -> int:
    """Return how many clients that many descriptors can serve, at least one."""
    return max(1, (descriptors - RESERVE) // 2)


def within_limit(settings: ProxySettings, log: Log) -> ProxySettings:
    """Return the settings with no more connections than there are descriptors for."""
    descriptors = raise_limit()
    if descriptors == resource.RLIM_INFINITY:
        return settings
    most = clients_for(descriptors)
    if settings.max_connections <= most:
        return settings
    log.warning(
        "app.connections_limited",
        wanted=settings.max_connections,
        limit=most,
        descriptors=descriptors,
    )
    return replace(settings, max_connections=most)
