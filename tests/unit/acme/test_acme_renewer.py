"""When certificates are ordered, renewed and tried again, on a clock that stands still."""

from __future__ import annotations

import asyncio
from random import Random

import pytest

from onetrip.acme.held import FIRST_DELAY, LAST_DELAY, retry_delay
from onetrip.acme.renewer import MAX_ORDERS, Renewer
from onetrip.acme.settings import Suggestion
from onetrip.acme.storage import Storage
from onetrip.app.certificates import CHECK_INTERVAL
from onetrip.errors import AcmeError, ConfigError
from onetrip.net.names import Names
from onetrip.net.tls import Certificate
from onetrip.observe.logs import silent_log
from onetrip.observe.metrics import Metrics
from onetrip.tasks import Tasks
from support.clock import VirtualClock

NOW = 1_750_000_000.0
DAY = 86400.0
HOUR = 3600.0


class FakeAuthority:
    """Issues at once, unless it was told what to raise for a domain, or for all ("*")."""

    def __init__(self, clock):
        self.clock = clock
        self.failures = {}
        self.orders = []
        self.replaced = []
        self.suggestion = Suggestion(None, 6 * HOUR)
        self.asked = 0
        self.gate = None

    async def order(self, domain, replaced=None):
        self.orders.append((domain, self.clock.now()))
        self.replaced.append(replaced)
        if self.gate is not None:
            await self.gate.wait()
        error = self.failures.get(domain) or self.failures.get("*")
        if error is not None:
            raise error
        return f"{domain} {self.clock.wall()}".encode()

    async def suggest(self, chain):
        self.asked += 1
        if isinstance(self.suggestion, Exception):
            raise self.suggestion
        return self.suggestion


class FakeContext:
    """Stands for a server context that was read from a file."""

    def __init__(self, certificate):
        self.certificate = certificate


class World:
    """A renewer with all it needs; certificates live for 90 days."""

    def __init__(self, folder):
        self.clock = VirtualClock()
        self.authority = FakeAuthority(self.clock)
        self.storage = Storage(folder, "https://ca.test/dir")
        self.storage.open(NOW)
        self.metrics = Metrics()
        self.told = []
        self.changes = 0
        self.errors = []
        self.tasks = Tasks(lambda name, error: self.errors.append(error))
        self.renewer = Renewer(
            self.authority,
            self.storage,
            self.load,
            renew_ratio=1 / 3,
            clock=self.clock,
            rng=Random(3),
            metrics=self.metrics,
            log=silent_log(),
            tell=lambda *event: self.told.append(event),
            on_change=self.change,
            spawn=self.tasks.spawn,
        )

    def change(self):
        self.changes += 1

    def load(self, path):
        text = path.read_text()
        if text == "damaged":
            raise ConfigError("damaged")
        domain, at = text.split()
        names = Names([domain])
        return FakeContext(Certificate(str(path), names, float(at) + 90 * DAY, float(at), "Fake"))

    async def pass_time(self, duration, step=CHECK_INTERVAL):
        end = self.clock.now() + duration
        while self.clock.now() < end:
            self.clock.step(min(step, end - self.clock.now()))
            await self.check()

    async def check(self):
        await self.renewer.check()
        while len(self.tasks):  # noqa: ASYNC110
            await asyncio.sleep(0)

    def times(self, domain):
        return [at for name, at in self.authority.orders if name == domain]

    def status(self, domain):
        return next(s for s in self.renewer.statuses() if domain in s.names)


@pytest.fixture
async def world(tmp_path):
    found = World(tmp_path)
    yield found
    await found.tasks.cancel(1.0)
    assert found.errors == []


async def test_each_domain_gets_a_certificate_of_its_own(world):
    await world.renewer.update(("a.test", "b.test"))
    await world.check()
    served = [c.certificate for c in list(world.renewer.served().values())]
    assert [c.names.hosts for c in served] == [("a.test",), ("b.test",)]
    assert [c.file for c in served] == [str(world.storage.path(d)) for d in ("a.test", "b.test")]
    assert {name for name, *_ in world.told} == {"acme.certificate_issued"}


async def test_renewal_comes_when_a_third_of_the_lifetime_is_left(world):
    await world.renewer.update(("a.test",))
    await world.check()
    first = world.clock.now()
    await world.pass_time(56 * DAY, step=HOUR)
    assert len(world.times("a.test")) == 1
    await world.pass_time(8 * DAY, step=HOUR)
    assert len(world.times("a.test")) == 2
    assert 57 * DAY <= world.times("a.test")[1] - first <= 63 * DAY + HOUR
    first, second = world.authority.replaced
    assert first is None
    assert second.startswith(b"a.test ")


async def test_domains_are_not_renewed_all_at_once(world):
    await world.renewer.update(tuple(f"{n}.test" for n in range(20)))
    await world.check()
    assert len({s.renew_at for s in world.renewer.statuses()}) == 20


async def test_failed_order_is_repeated_later_and_later(world):
    world.authority.failures["a.test"] = AcmeError("no", reason="challenge")
    await world.renewer.update(("a.test",))
    await world.check()
    await world.pass_time(3 * DAY, step=5.0)
    gaps = [b - a for a, b in zip(world.times("a.test"), world.times("a.test")[1:], strict=False)]
    for number, gap in enumerate(gaps):
        usual = min(FIRST_DELAY * 3**number, LAST_DELAY)
        assert 0.9 * usual <= gap <= 1.1 * usual + 5.0
    first = world.times("a.test")[0]
    # Let's Encrypt forgives five failed validations an hour.
    assert sum(at < first + HOUR for at in world.times("a.test")) <= 5
    assert world.status("a.test").failures == len(world.times("a.test"))


async def test_wish_of_the_authority_is_kept(world):
    world.authority.failures["a.test"] = AcmeError(
        "no", reason="rate_limited", retry_after=9 * HOUR
    )
    await world.renewer.update(("a.test",))
    await world.check()
    await world.pass_time(9 * HOUR - 60, step=60.0)
    assert len(world.times("a.test")) == 1
    await world.pass_time(120, step=60.0)
    assert len(world.times("a.test")) == 2


async def test_failing_domain_holds_up_no_other(world):
    world.authority.failures["a.test"] = AcmeError("no", reason="challenge")
    await world.renewer.update(("a.test", "b.test"))
    await world.check()
    states = {s.names[0]: s.state.value for s in world.renewer.statuses()}
    assert states == {"a.test": "failing", "b.test": "valid"}
    sample = world.metrics.registry.get_sample_value
    assert sample("onetrip_acme_orders_total", {"outcome": "challenge"}) == 1
    assert sample("onetrip_acme_certificates", {"state": "failing"}) == 1


async def test_absent_authority_is_not_asked_once_per_domain(world):
    world.authority.failures["*"] = AcmeError("away", reason="unreachable", is_global=True)
    await world.renewer.update(tuple(f"{n}.test" for n in range(100)))
    await world.check()
    assert len(world.authority.orders) <= MAX_ORDERS
    await world.pass_time(10 * HOUR, step=60.0)
    # The same back-off as for one domain, times the orders that run at once.
    assert len(world.authority.orders) <= 8 * MAX_ORDERS
    world.authority.failures.clear()
    await world.pass_time(7 * HOUR, step=60.0)
    assert {s.state.value for s in world.renewer.statuses()} == {"valid"}


async def test_renewal_that_fails_leaves_the_old_certificate_in_use(world):
    await world.renewer.update(("a.test",))
    await world.check()
    served = list(world.renewer.served().values())
    world.authority.failures["a.test"] = AcmeError("no", reason="challenge")
    await world.pass_time(70 * DAY, step=HOUR)
    assert list(world.renewer.served().values()) == served
    assert world.status("a.test").state.value == "failing"
    await world.pass_time(30 * DAY, step=HOUR)
    assert world.status("a.test").state.value == "expired"
    world.authority.failures.clear()
    await world.pass_time(7 * HOUR, step=60.0)
    assert world.status("a.test").state.value == "valid"
    assert world.status("a.test").error == ""


async def test_bounded_number_of_orders_runs_at_once(world):
    world.authority.gate = asyncio.Event()
    await world.renewer.update(tuple(f"{n}.test" for n in range(20)))
    await world.renewer.check()
    await world.renewer.check()
    for _ in range(20):
        await asyncio.sleep(0)
    assert len(world.authority.orders) == MAX_ORDERS
    world.authority.gate.set()
    await world.check()
    assert sorted(name for name, _ in world.authority.orders) == sorted(
        f"{n}.test" for n in range(20)
    )


async def test_restart_serves_what_is_on_disk(world, tmp_path):
    await world.renewer.update(("a.test",))
    await world.check()
    again = World(tmp_path)
    await again.renewer.update(("a.test",))
    await again.check()
    assert again.authority.orders == []
    assert again.changes == 1
    assert len(again.renewer.served()) == 1


async def test_certificate_that_is_due_at_once_does_not_make_a_circle(world):
    issue = world.authority.order

    async def stale(domain, replaced):
        await issue(domain)
        return f"{domain} {world.clock.wall() - 80 * DAY}".encode()

    world.authority.order = stale
    await world.renewer.update(("a.test",))
    await world.check()
    await world.pass_time(DAY - HOUR, step=600.0)
    assert len(world.times("a.test")) == 2


async def test_damaged_file_is_ordered_anew(world):
    world.storage.path("a.test").write_text("damaged")
    await world.renewer.update(("a.test",))
    assert list(world.renewer.served().values()) == []
    await world.check()
    assert len(list(world.renewer.served().values())) == 1


async def test_unusable_answer_leaves_the_file_as_it_was(world):
    await world.renewer.update(("a.test",))
    await world.check()
    before = world.storage.load("a.test")

    async def order(domain, replaced):
        return b"damaged"

    world.authority.order = order
    await world.pass_time(70 * DAY, step=HOUR)
    assert world.storage.load("a.test") == before
    sample = world.metrics.registry.get_sample_value
    assert sample("onetrip_acme_orders_total", {"outcome": "unusable"}) > 0


async def test_domain_that_left_is_neither_served_nor_renewed(world):
    await world.renewer.update(("a.test", "b.test"))
    await world.check()
    await world.renewer.update(("b.test",))
    assert [c.certificate.names.hosts for c in list(world.renewer.served().values())] == [
        ("b.test",)
    ]
    await world.pass_time(70 * DAY, step=HOUR)
    assert len(world.times("a.test")) == 1
    assert len(world.times("b.test")) == 2


class TestSuggestions:
    async def test_authority_moves_the_renewal(self, world):
        await world.renewer.update(("a.test",))
        await world.check()
        first = world.clock.now()
        world.authority.suggestion = Suggestion(world.clock.wall() + 5 * DAY, 6 * HOUR)
        await world.pass_time(6 * DAY, step=600.0)
        assert len(world.times("a.test")) == 2
        assert 5 * DAY <= world.times("a.test")[1] - first <= 5 * DAY + 2 * 600

    async def test_authority_that_always_says_now_does_not_make_a_circle(self, world):
        world.authority.suggestion = Suggestion(world.clock.wall(), 60.0)
        await world.renewer.update(("a.test",))
        await world.check()
        await world.pass_time(7 * DAY, step=600.0)
        assert 3 <= len(world.times("a.test")) <= 4

    async def test_it_is_asked_as_rarely_as_it_wants(self, world):
        await world.renewer.update(("a.test",))
        await world.check()
        await world.pass_time(2 * DAY, step=600.0)
        assert 7 <= world.authority.asked <= 9

    async def test_it_cannot_put_off_the_renewal_until_the_end(self, world):
        await world.renewer.update(("a.test",))
        await world.check()
        world.authority.suggestion = Suggestion(world.clock.wall() + 300 * DAY, 6 * HOUR)
        await world.check()
        await world.pass_time(76 * DAY, step=HOUR)
        assert len(world.times("a.test")) == 2

    async def test_silence_leaves_our_own_plan(self, world):
        await world.renewer.update(("a.test",))
        await world.check()
        world.authority.suggestion = AcmeError("no", reason="unreachable")
        await world.pass_time(64 * DAY, step=HOUR)
        assert len(world.times("a.test")) == 2
        assert world.status("a.test").failures == 0


def test_delay_is_bounded_however_often_it_fails():
    assert retry_delay(10**6, None, Random(1)) <= 1.1 * LAST_DELAY
