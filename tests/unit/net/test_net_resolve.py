"""Names are looked up once in a while, and a dead address makes room for the next one."""

import asyncio

import pytest

from onetrip.errors import Kind, UpstreamError
from onetrip.net.resolve import CachingResolver, is_address
from support.clock import VirtualClock


class Names:
    """A name service that counts its questions."""

    def __init__(self, **names: list[str]) -> None:
        self.names = names
        self.asked: list[str] = []

    async def __call__(self, host: str) -> list[str]:
        self.asked.append(host)
        if host == "slow":
            await asyncio.Event().wait()
        if host not in self.names:
            raise OSError(-2, "Name or service not known")
        return list(self.names[host])


def resolver(names: Names, **options: float) -> tuple[CachingResolver, VirtualClock]:
    clock = VirtualClock()
    return CachingResolver(clock, lookup=names, **options), clock  # type: ignore[arg-type]


@pytest.mark.parametrize("address", ["192.0.2.1", "2001:db8::1", "fe80::1%eth0"])
async def test_address_is_not_looked_up(address: str) -> None:
    names = Names()
    resolve, _ = resolver(names)
    assert is_address(address)
    assert await resolve(address, timeout=1.0) == address
    assert names.asked == []


async def test_answer_is_remembered_for_its_time() -> None:
    names = Names(db=["192.0.2.1"])
    resolve, clock = resolver(names, ttl=60.0)
    for _ in range(3):
        assert await resolve("db", timeout=1.0) == "192.0.2.1"
    clock.step(59.0)
    await resolve("db", timeout=1.0)
    assert names.asked == ["db"]
    clock.step(1.0)
    await resolve("db", timeout=1.0)
    assert names.asked == ["db", "db"]


async def test_distrusted_address_makes_room_for_the_next_then_for_a_new_look_up() -> None:
    names = Names(db=["192.0.2.1", "192.0.2.2"])
    resolve, _ = resolver(names)
    assert await resolve("db", timeout=1.0) == "192.0.2.1"
    resolve.distrust("db", "192.0.2.1")
    resolve.distrust("db", "192.0.2.1")  # said twice by two probes: counts once
    assert await resolve("db", timeout=1.0) == "192.0.2.2"
    resolve.distrust("db", "192.0.2.2")
    assert await resolve("db", timeout=1.0) == "192.0.2.1"
    assert names.asked == ["db", "db"]


async def test_memory_is_bounded() -> None:
    names = Names(a=["192.0.2.1"], b=["192.0.2.2"], c=["192.0.2.3"])
    resolve, _ = resolver(names, size=2)
    for name in "abc":
        await resolve(name, timeout=1.0)
    await resolve("c", timeout=1.0)
    await resolve("a", timeout=1.0)
    assert names.asked == ["a", "b", "c", "a"]


async def test_unknown_name_is_a_connect_failure_and_is_asked_again() -> None:
    names = Names()
    resolve, _ = resolver(names)
    for _ in range(2):
        with pytest.raises(UpstreamError, match="look-up of nowhere failed: Name") as caught:
            await resolve("nowhere", timeout=1.0)
        assert caught.value.kind is Kind.CONNECT
    assert len(names.asked) == 2


async def test_slow_name_service_is_a_timeout() -> None:
    resolve, _ = resolver(Names())
    with pytest.raises(UpstreamError, match=r"look-up of slow exceeds 0.01 s") as caught:
        await resolve("slow", timeout=0.01)
    assert caught.value.kind is Kind.TIMEOUT
