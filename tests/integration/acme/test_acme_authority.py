"""The protocol alone, on a clock that jumps: how long it waits, and what it does not believe."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt

import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from onetrip.acme.keys import new_key, renewal_id
from onetrip.acme.protocol import MAX_POLL, ORDER_TIMEOUT, AcmeAuthority
from onetrip.acme.session import MAX_NONCES, MAX_REPLY_SIZE
from onetrip.acme.settings import AcmeSettings
from onetrip.acme.storage import Storage
from onetrip.errors import AcmeError
from support.acme_checks import ProblemError
from support.acme_server import id_of, running_acme


class JumpingClock:
    """Time that passes only by waiting for it, and then at once."""

    def __init__(self):
        self.waits = []

    def now(self):
        return sum(self.waits)

    def wall(self):
        return 1_750_000_000.0 + self.now()

    async def sleep(self, duration):
        self.waits.append(duration)
        await asyncio.sleep(0)


class Answers:
    """Notes what was answered, and what still is."""

    def __init__(self):
        self.seen, self.given = [], []

    async def put(self, challenge):
        self.seen.append(challenge)
        self.given.append(challenge)

    def take(self, challenge):
        self.given.remove(challenge)


class World:
    """An authority that believes everything, and somebody who orders from it."""

    def __init__(self, folder, server):
        self.server = server
        self.clock = JumpingClock()
        self.answers = Answers()
        self.storage = Storage(folder / "acme", server.directory)
        self.storage.open(self.clock.wall())
        settings = AcmeSettings(
            directory=server.directory,
            email=None,
            domains=("a.test",),
            challenge="http-01",
            key_type="p256",
            renew_ratio=1 / 3,
            ca_file=folder / "ca.pem",
            external_account=None,
            region="den",
        )
        agent = "onetrip/test"
        self.authority = AcmeAuthority(settings, self.storage, self.answers, self.clock, agent)

    async def refused(self):
        with pytest.raises(AcmeError) as caught:
            await self.authority.order("a.test")
        assert self.answers.given == []
        return caught.value


@contextlib.asynccontextmanager
async def world_of(folder, **more):
    async with running_acme(folder, 0, 0, is_credulous=True, **more) as server:
        yield World(folder, server)


async def test_key_and_chain_come_back_and_the_answer_is_taken_away(tmp_path):
    async with world_of(tmp_path) as world:
        pair = await world.authority.order("a.test")
        assert pair.startswith(b"-----BEGIN PRIVATE KEY-----")
        assert pair.count(b"BEGIN CERTIFICATE") == 2
        [challenge] = world.answers.seen
        account = next(iter(world.server.accounts))
        assert challenge.key_authorization == f"{challenge.token}.{account}"
        assert world.answers.given == []


async def test_second_order_needs_neither_directory_nor_account_again(tmp_path):
    async with world_of(tmp_path) as world:
        await world.authority.order("a.test")
        world.server.seen.clear()
        await world.authority.order("a.test")
        assert not {"directory", "account"} & set(world.server.seen)


async def test_renewal_names_what_it_replaces(tmp_path):
    async with world_of(tmp_path, window=(1.8e9, 1.9e9)) as world:
        first = await world.authority.order("a.test")
        await world.authority.order("a.test", first)
        assert world.server.orders[1].replaces == id_of(world.server.orders[0])
        # It has been replaced already (409): an order like any other.
        await world.authority.order("a.test", first)
        # Somebody else's, or no certificate at all.
        await world.authority.order("b.test", first)
        await world.authority.order("b.test", b"damaged")
        assert [o.replaces for o in world.server.orders[2:]] == [None] * 3


async def test_authority_without_renewal_information_hears_nothing_of_it(tmp_path):
    async with world_of(tmp_path) as world:
        first = await world.authority.order("a.test")
        await world.authority.order("a.test", first)
        assert world.server.orders[1].replaces is None
        assert world.server.seen.count("order") == 2 + 2


def test_name_of_a_certificate_is_that_of_the_standard():
    # Appendix A of RFC 9773 describes this certificate; its serial number needs a sign byte.
    key = bytes.fromhex("69885B6B87464041E1B37B847BA0AE2CDE01C8D4")
    secret = new_key()
    name = x509.Name([])
    start = dt.datetime(2025, 1, 1, tzinfo=dt.UTC)
    certificate = (
        x509.CertificateBuilder(
            name, name, secret.public_key(), 0x87654321, start, start + dt.timedelta(days=90)
        )
        .add_extension(x509.AuthorityKeyIdentifier(key, None, None), critical=False)
        .sign(secret, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    assert renewal_id(pem) == "aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE"
    assert renewal_id(b"none") is None


@pytest.mark.parametrize(
    ("pace", "longest"), [("", 5.0), ("7", 7.0), ("900", MAX_POLL), ("soon", 5.0)]
)
async def test_authority_sets_the_pace_within_bounds(tmp_path, pace, longest):
    async with world_of(tmp_path, patience=8, pace=pace) as world:
        if pace == "900":
            world.server.patience = 4
        await world.authority.order("a.test")
        assert max(world.clock.waits) == longest


async def test_order_that_never_ends_is_given_up(tmp_path):
    async with world_of(tmp_path, patience=10**9) as world:
        error = await world.refused()
        assert (error.reason, error.is_global) == ("timeout", False)
        assert str(error) == "a.test was not validated within 180 s"
        assert world.clock.now() <= ORDER_TIMEOUT
        assert len(world.server.seen) < 60


async def test_nonces_are_refused_for_a_while_but_not_for_ever(tmp_path):
    async with world_of(tmp_path) as world:
        world.server.fail("order", *[ProblemError("badNonce")] * 7)
        await world.authority.order("a.test")
        world.server.fail("order", *[ProblemError("badNonce")] * 100)
        error = await world.refused()
        assert "badNonce" in str(error)
        assert world.server.seen.count("order") <= 8 + 2 + 2 * MAX_NONCES


@pytest.mark.parametrize(
    ("step", "reply", "reason"),
    [
        ("order", {"text": "[]"}, "malformed"),
        ("order", {"text": "x" * (MAX_REPLY_SIZE + 1)}, "malformed"),
        ("authorization", {"text": '{"status": "pending"}'}, "malformed"),
        ("finalize", {"text": '{"status": "invalid"}'}, "malformed"),
        ("certificate", {"text": "no certificate"}, "malformed"),
        ("challenge", {"status": 500}, "unavailable"),
        ("nonce", {"status": 503}, "unavailable"),
    ],
)
async def test_answer_that_makes_no_sense_is_a_typed_error(tmp_path, step, reply, reason):
    async with world_of(tmp_path) as world:
        world.server.fail(step, web.Response(**reply))
        error = await world.refused()
        assert error.reason == reason
        await world.authority.order("a.test")  # the next one is not any worse for it


@pytest.mark.parametrize("token", ["../../etc", "a b", "", "x" * 300, 7, None])
async def test_token_that_could_be_anything_else_is_refused(tmp_path, token):
    async with world_of(tmp_path) as world:
        body = {
            "identifier": {"type": "dns", "value": "a.test"},
            "status": "pending",
            "challenges": [{"type": "http-01", "url": f"{world.server.base}/x", "token": token}],
        }
        world.server.fail("authorization", web.json_response(body))
        assert (await world.refused()).reason == "malformed"
        assert world.answers.seen == []


async def test_name_that_was_not_ordered_is_not_proved(tmp_path):
    async with world_of(tmp_path) as world:
        body = {
            "identifier": {"type": "dns", "value": "b.test"},
            "status": "pending",
            "challenges": [{"type": "http-01", "url": f"{world.server.base}/x", "token": "t"}],
        }
        world.server.fail("authorization", web.json_response(body))
        assert (await world.refused()).reason == "malformed"
        assert world.answers.seen == []


async def test_challenge_that_is_not_offered_is_told(tmp_path):
    async with world_of(tmp_path, offered=("dns-01",)) as world:
        error = await world.refused()
        assert error.reason == "refused"
        assert str(error) == "the authority offers dns-01 for a.test, not http-01"


async def test_refusal_is_told_in_one_bounded_line(tmp_path):
    async with world_of(tmp_path) as world:
        text = "no\n\x1b[31m" + "x" * 10_000
        world.server.fail("order", ProblemError("caa", text, status=403, retry_after="60"))
        error = await world.refused()
        assert (error.reason, error.retry_after) == ("challenge", 60.0)
        assert len(str(error)) < 400
        assert str(error).isprintable()


async def test_damaged_account_key_is_told_without_its_text(tmp_path):
    async with world_of(tmp_path) as world:
        world.storage.save_account(b"-----BEGIN PRIVATE KEY-----\nsecret\n")
        error = await world.refused()
        assert (error.reason, str(error)) == ("storage", "the account's key file holds no key")


async def test_only_https_is_spoken(tmp_path):
    async with world_of(tmp_path) as world:
        body = dict.fromkeys(("newNonce", "newAccount", "newOrder"), "http://127.0.0.1:1/")
        world.server.fail("directory", web.json_response(body))
        error = await world.refused()
        assert (error.reason, error.is_global) == ("malformed", True)
