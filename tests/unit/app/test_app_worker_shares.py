"""What a worker gets of the limits of its node."""

from __future__ import annotations

import ipaddress
import os

import msgspec
import pytest

from onetrip.app.worker_messages import decode_to_node, decode_to_worker
from onetrip.app.worker_shares import (
    as_fields,
    from_fields,
    share_of_catalog,
    share_of_settings,
    worker_count,
)
from onetrip.errors import ProtocolError
from onetrip.proxy.ejection import EjectionSettings
from onetrip.proxy.settings import ProxySettings
from support.proxy_rig import DEN, Endpoint, make_catalog


def test_limits_of_the_node_are_divided_and_rounded_up_and_others_are_not() -> None:
    settings = ProxySettings(max_connections=10, pool_queue=0, body_limit=7)
    share = share_of_settings(settings, 3)
    assert (share.max_connections, share.pool_queue, share.body_limit) == (4, 0, 7)
    assert share.idle_timeout == settings.idle_timeout


def test_capacity_of_an_instance_is_divided() -> None:
    endpoint = Endpoint("127.0.0.1", 1)
    catalog = share_of_catalog(make_catalog({DEN: [endpoint]}, capacity=5), 2)
    assert [e.capacity for e in catalog.environments()] == [3]
    unlimited = make_catalog({DEN: [endpoint]})
    assert share_of_catalog(unlimited, 2) == unlimited


def test_settings_survive_the_way() -> None:
    networks = (ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("fd00::/8"))
    settings = ProxySettings(
        trusted_proxies=networks,
        needs_proxy_header=True,
        pool_idle=3,
        ejection=EjectionSettings(errors=7),
    )
    fields, texts = msgspec.msgpack.decode(msgspec.msgpack.encode(as_fields(settings)))
    assert from_fields(fields, texts) == settings


def test_auto_is_one_for_each_usable_processor() -> None:
    assert worker_count("auto") == len(os.sched_getaffinity(0))
    assert (worker_count(1), worker_count(3)) == (1, 3)


@pytest.mark.parametrize("decode", [decode_to_node, decode_to_worker])
@pytest.mark.parametrize("data", [b"", b"\xc1", b"\x93\xa4Seen", b"\x92\xa7Unknown\x01"])
def test_bytes_that_are_no_message_are_refused(decode: object, data: bytes) -> None:
    with pytest.raises(ProtocolError, match="cannot be read"):
        decode(data)  # type: ignore[operator]
