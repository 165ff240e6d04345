"""No more clients than there are file descriptors for."""

from __future__ import annotations

import resource

import pytest

from onetrip.app import descriptors
from onetrip.observe.logs import silent_log
from onetrip.proxy.settings import ProxySettings


@pytest.mark.parametrize(
    ("available", "clients"), [(20000, 9988), (1024, 500), (64, 20), (24, 1), (3, 1)]
)
def test_half_of_what_is_left_after_the_reserve(available, clients):
    assert descriptors.clients_for(available) == clients


def test_settings_that_fit_stay_as_they_are():
    settings = ProxySettings(max_connections=1)
    assert descriptors.within_limit(settings, silent_log()) is settings


def test_soft_limit_is_raised_to_the_hard_one():
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(256, before[1]), before[1]))
        assert descriptors.raise_limit() == before[1]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
