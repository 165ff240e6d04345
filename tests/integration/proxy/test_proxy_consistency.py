"""Sessions over a real proxy: what a client wrote and saw, it reads, wherever its requests run."""

from __future__ import annotations

import asyncio
import contextlib
import re

import pytest

from onetrip.model.consistency import Carry, Consistency
from onetrip.model.edge import CachePolicy
from onetrip.model.measure import Target, TargetKind
from onetrip.model.placement import Placement, PlacementSnapshot, Status
from onetrip.model.replication import Position, lsn
from onetrip.wire.consistency_token import Session, TokenSigner
from support.fake_guide import FakeGuide
from support.fake_replication import FakeReplication
from support.fake_upstream import FakeUpstream
from support.proxy_rig import DEN, FRA, SHOP, ProxyRig, make_catalog, make_topology
from support.waits import eventually

KEY = b"k" * 32
READER = TokenSigner([KEY], 3600.0)
REPLICA = "db/den"
PLACED = Placement(Status.PLACED, (FRA, DEN), DEN)
EDGE = Placement(Status.AT_EDGE, (DEN, FRA), DEN)


class App:
    """An application that answers `ok`, and records where it was told to read.

    Attributes:
        lines: field lines of its responses.
        gate: set while it may answer.
    """

    def __init__(self) -> None:
        self.lines = b""
        self.gate = asyncio.Event()
        self.gate.set()
        self.heads: list[bytes] = []

    async def __call__(self, connection) -> None:
        while head := await connection.read_request():
            self.heads.append(head)
            await self.gate.wait()
            await connection.send(b"HTTP/1.1 200 OK\r\n%bContent-Length: 2\r\n\r\nok" % self.lines)

    @property
    def reads(self) -> list[str]:
        """Where each request so far was told to read, "" for nowhere."""
        found = [re.search(rb"(?m)^onetrip-read: (.*)\r$", head) for head in self.heads]
        return [each[1].decode() if each else "" for each in found]


def terms(**changes) -> Consistency:
    return Consistency((KEY,), **{"wait": 5.0, "carry": Carry.HEADER, **changes})


@contextlib.asynccontextmanager
async def shop(own=None, **options):
    """Yield (rig, application, replication, guide): primary at 100, a replica beside the node."""
    app, replication = App(), FakeReplication()
    replication.put("db", "db", lsn(100))
    replication.put("db", REPLICA, lsn(100))
    guide = FakeGuide(replication, {"db": REPLICA})
    async with FakeUpstream(app) as upstream:
        catalog = make_catalog(
            {DEN: [upstream.endpoint]},
            consistency=own or terms(),
            reads_nearest=frozenset({"db"}),
            **options,
        )
        async with ProxyRig(catalog, make_topology({DEN: None}), guide=guide) as rig:
            yield rig, app, replication, guide


def request(method="GET", *lines, path="/a"):
    fields = "".join(f"{line}\r\n" for line in lines)
    framing = "Content-Length: 0\r\n" if method == "POST" else ""
    return f"{method} {path} HTTP/1.1\r\nHost: shop.test\r\n{fields}{framing}\r\n".encode()


def bring(session: Session, rig: ProxyRig) -> str:
    """Return the field with the token of a session."""
    token = READER.sign(session, rig.server._clock.wall())
    return f"onetrip-consistency: {token.decode()}"


def told(response, rig: ProxyRig) -> Session | None:
    """Return the session that a response gives its client, None for no token."""
    tokens = response.header("onetrip-consistency")
    if not tokens:
        return None
    found = READER.read(tokens[0].encode(), rig.server._clock.wall())
    assert isinstance(found, tuple)
    return found[0]


def kept(rig: ProxyRig, outcome: str) -> float:
    name = "onetrip_consistency_total"
    return rig.metrics.registry.get_sample_value(name, {"outcome": outcome}) or 0.0


def refused(rig: ProxyRig, reason: str) -> float:
    name = "onetrip_consistency_tokens_refused_total"
    return rig.metrics.registry.get_sample_value(name, {"reason": reason}) or 0.0


class TestOneNode:
    async def test_a_write_reads_the_primary_and_brings_its_position(self):
        async with shop() as (rig, app, replication, _):
            replication.put("db", "db", lsn(250))
            response = await rig.ask(request("POST"))
            session = told(response, rig)
            assert session is not None
            assert session.positions == {"db": lsn(250)}
            assert session.wrote_at > 0
            assert app.reads == ["db=db"]

    async def test_a_read_tells_what_the_replica_showed(self):
        async with shop() as (rig, app, _, _):
            response = await rig.ask(request())
            assert told(response, rig) == Session({"db": lsn(100)})
            assert app.reads == ["db=db/den"]
            assert kept(rig, "fresh") == 0, "it brought nothing"

    async def test_a_read_waits_for_the_replica(self):
        async with shop() as (rig, app, replication, _):
            asking = asyncio.create_task(
                rig.ask(request("GET", bring(Session({"db": lsn(200)}), rig)))
            )
            await eventually(lambda: replication.waiting == 1)
            assert app.heads == []
            replication.put("db", REPLICA, lsn(230))
            assert told(await asking, rig) == Session({"db": lsn(230)})
            assert app.reads == ["db=db/den"]
            assert kept(rig, "waited") == 1
            assert rig.lines[0]["consistency"] == "waited"

    async def test_after_the_bound_it_reads_the_primary(self):
        async with shop(terms(wait=0.02)) as (rig, app, replication, _):
            replication.put("db", "db", lsn(220))
            response = await rig.ask(request("GET", bring(Session({"db": lsn(200)}), rig)))
            assert told(response, rig) == Session({"db": lsn(220)})
            assert app.reads == ["db=db"]
            assert kept(rig, "primary") == 1
            assert rig.observations == [], "it tells nothing about reads beside a replica"

    async def test_a_replica_that_has_it_is_read_at_once(self):
        async with shop() as (rig, app, _, _):
            line = bring(Session({"db": lsn(100)}, 7), rig)
            response = await rig.ask(request("GET", line))
            assert told(response, rig) is None, "the client has this token already"
            assert app.reads == ["db=db/den"]
            assert kept(rig, "fresh") == 1

    async def test_a_replica_started_again_is_not_believed_twice(self):
        async with shop() as (rig, app, replication, _):
            app.gate.clear()
            line = bring(Session({"db": lsn(90)}), rig)
            asking = asyncio.create_task(rig.ask(request("GET", line)))
            await eventually(lambda: len(app.heads) == 1)
            replication.put("db", REPLICA, lsn(60))  # it lost what it had not written out
            app.gate.set()
            assert told(await asking, rig) == Session({"db": lsn(100)})
            assert app.reads == ["db=db/den", "db=db"]
            assert rig.lines[0]["consistency"] == "primary"

    async def test_a_silent_replica_leaves_reads_to_the_primary(self):
        async with shop() as (rig, app, replication, _):
            replication.lose("db", REPLICA)
            response = await rig.ask(request("GET", bring(Session({"db": lsn(90)}), rig)))
            assert told(response, rig) == Session({"db": lsn(100)})
            assert app.reads == ["db=db"]

    async def test_an_unknown_position_is_nowhere_but_at_the_primary(self):
        async with shop() as (rig, app, replication, _):
            replication.lose("db", "db")
            session = told(await rig.ask(request("POST")), rig)
            assert session is not None
            assert session.positions == {"db": None}
            replication.put("db", "db", lsn(170))
            replication.put("db", REPLICA, lsn(170))
            response = await rig.ask(request("GET", bring(session, rig)))
            assert app.reads == ["db=db", "db=db"]
            later = told(response, rig)
            assert later is not None
            assert later.positions == {"db": lsn(170)}
            await rig.ask(request("GET", bring(later, rig)))
            assert app.reads[-1] == "db=db/den"

    async def test_what_a_failover_lost_does_not_hold_a_session_up_for_ever(self):
        async with shop(terms(wait=0.02)) as (rig, _, _, _):
            response = await rig.ask(request("GET", bring(Session({"db": lsn(900)}), rig)))
            assert told(response, rig) == Session({"db": lsn(100)}), "all that is left"

    async def test_a_promoted_replica_is_the_primary(self):
        async with shop() as (rig, app, _, guide):
            guide.primaries["db"] = REPLICA
            await rig.ask(request("POST"))
            assert app.reads == ["db=db/den"]

    @pytest.mark.parametrize(
        ("line", "reason"),
        [
            ("onetrip-consistency: v1.AAAA.AAAAAAAAAAAAAAAAAAAAAA", "forged"),
            ("onetrip-consistency: hello", "malformed"),
            ("onetrip-consistency: " + "x" * 3000, "malformed"),
        ],
    )
    async def test_tokens_of_others_are_ignored_and_counted(self, line, reason):
        async with shop() as (rig, app, _, _):
            response = await rig.ask(request("GET", line))
            assert response.status == 200
            assert refused(rig, reason) == 1
            assert app.reads == ["db=db/den"]

    async def test_old_tokens_are_ignored_and_counted(self):
        async with shop() as (rig, _, _, _):
            then = rig.server._clock.wall() - 3700
            token = READER.sign(Session({"db": lsn(10**9)}), then).decode()
            response = await rig.ask(request("GET", f"onetrip-consistency: {token}"))
            assert response.status == 200
            assert refused(rig, "old") == 1

    async def test_several_tokens_count_together(self):
        async with shop(terms(wait=0.02)) as (rig, app, replication, _):
            replication.put("db", "db", lsn(300))
            lines = [bring(Session({"db": lsn(n)}), rig) for n in (50, 300)]
            await rig.ask(request("GET", *lines))
            assert app.reads == ["db=db"]

    async def test_clients_and_applications_cannot_speak_for_a_node(self):
        async with shop() as (rig, app, _, _):
            app.lines = b"onetrip-consistency: theirs\r\nonetrip-read: db=x\r\n"
            response = await rig.ask(request("GET", "onetrip-read: db=elsewhere"))
            assert app.reads == ["db=db/den"]
            assert told(response, rig) == Session({"db": lsn(100)})
            assert response.header("onetrip-read") == []

    async def test_a_kept_connection_serves_reads_and_writes(self):
        async with shop() as (rig, app, _, _), rig.client() as client:
            for method in ("GET", "POST", "GET", "GET"):
                await client.send(request(method))
                assert (await client.response()).body == b"ok"
            assert app.reads == ["db=db/den", "db=db", "db=db/den", "db=db/den"]

    async def test_other_projects_notice_nothing(self):
        async with FakeUpstream(app := App()) as upstream:
            catalog = make_catalog({DEN: [upstream.endpoint]})
            guide = FakeGuide(FakeReplication())
            async with ProxyRig(catalog, make_topology({DEN: None}), guide=guide) as rig:
                response = await rig.ask(request("GET", "onetrip-consistency: x"))
                assert response.header("onetrip-consistency") == []
                assert app.reads == [""]
                assert rig.server._services.consistency is None


class FakeRelays:
    """Relays of one region that hold what a test lets them.

    Attributes:
        held: floors that they were told.
        commits: how far the commits through them are; None: they are silent.
    """

    def __init__(self) -> None:
        self.held: list[Position] = []
        self.commits: Position | None = lsn(1)

    async def hold(self, position: Position) -> bool:
        self.held.append(position)
        return self.commits is not None

    async def written(self) -> Position | None:
        return self.commits


class TestRelays:
    async def test_they_are_told_the_floor_and_the_application_nothing(self):
        async with shop() as (rig, app, _, guide):
            guide.through["db"] = relays = FakeRelays()
            response = await rig.ask(request("GET", bring(Session({"db": lsn(300)}), rig)))
            assert told(response, rig) is None, "what is held is what the client had"
            assert relays.held == [lsn(300)]
            assert app.reads == [""]
            assert kept(rig, "fresh") == 1

    async def test_a_write_brings_how_far_their_commits_are(self):
        async with shop() as (rig, _, replication, guide):
            guide.through["db"] = relays = FakeRelays()
            relays.commits = lsn(170)
            replication.put("db", "db", lsn(999))
            session = told(await rig.ask(request("POST")), rig)
            assert session is not None
            assert session.positions == {"db": lsn(170)}
            relays.commits = None  # then the primary knows
            session = told(await rig.ask(request("POST")), rig)
            assert session is not None
            assert session.positions == {"db": lsn(999)}

    async def test_an_unknown_position_is_held_by_what_the_primary_has(self):
        async with shop() as (rig, _, _, guide):
            guide.through["db"] = relays = FakeRelays()
            response = await rig.ask(request("GET", bring(Session({"db": None}), rig)))
            assert relays.held == [lsn(100)]
            assert told(response, rig) == Session({"db": lsn(100)})

    async def test_what_nobody_knows_stays_unknown(self):
        async with shop() as (rig, _, replication, guide):
            guide.through["db"] = relays = FakeRelays()
            replication.lose("db", "db")
            response = await rig.ask(request("GET", bring(Session({"db": None}), rig)))
            assert relays.held == []
            assert told(response, rig) is None, "the client keeps what it has"
            assert kept(rig, "unsure") == 1

    async def test_silent_ones_are_told_of(self):
        async with shop() as (rig, _, _, guide):
            guide.through["db"] = relays = FakeRelays()
            relays.commits = None
            response = await rig.ask(request("GET", bring(Session({"db": lsn(50)}), rig)))
            assert response.status == 200
            assert kept(rig, "unsure") == 1


class TestCookies:
    async def test_reads_and_writes_have_a_cookie_each(self):
        async with shop(terms(carry=Carry.COOKIE)) as (rig, app, replication, _):
            (wrote,) = (await rig.ask(request("POST"))).header("Set-Cookie")
            (seen,) = (await rig.ask(request())).header("Set-Cookie")
            ends = "; Path=/; Max-Age=3600; HttpOnly; SameSite=Lax"
            assert wrote.startswith("onetrip-wrote=v1.")
            assert wrote.endswith(ends)
            assert seen.startswith("onetrip-seen=v1.")
            assert seen.endswith(ends)
            replication.put("db", REPLICA, lsn(70))
            replication.put("db", "db", lsn(140))
            jar = "; ".join(["a=b", wrote.split(";")[0], seen.split(";")[0]])
            asking = asyncio.create_task(rig.ask(request("GET", f"Cookie: {jar}")))
            await eventually(lambda: replication.waiting == 1)
            replication.put("db", REPLICA, lsn(120))
            await asking
            assert app.reads == ["db=db", "db=db/den", "db=db/den"]

    async def test_they_are_secure_where_the_client_speaks_tls(self):
        from ipaddress import ip_network

        from onetrip.proxy.settings import ProxySettings

        app, replication = App(), FakeReplication()
        replication.put("db", "db", lsn(1))
        async with FakeUpstream(app) as upstream:
            catalog = make_catalog(
                {DEN: [upstream.endpoint]},
                consistency=terms(carry=Carry.COOKIE),
                reads_nearest=frozenset({"db"}),
            )
            settings = ProxySettings(trusted_proxies=(ip_network("127.0.0.0/8"),))
            topology = make_topology({DEN: None})
            rig = ProxyRig(catalog, topology, settings=settings, guide=FakeGuide(replication))
            async with rig:
                response = await rig.ask(request("POST", "X-Forwarded-Proto: https"))
                assert response.header("Set-Cookie")[0].endswith("; Secure")

    async def test_the_field_does_not_count_where_cookies_do(self):
        async with shop(terms(carry=Carry.COOKIE)) as (rig, app, _, _):
            await rig.ask(request("GET", bring(Session({"db": None}), rig)))
            assert app.reads == ["db=db/den"]

    async def test_a_kept_response_is_not_for_who_has_written(self):
        policy = CachePolicy(1 << 20, 1 << 16, 0.0, False, 5.0)
        async with shop(cache=policy) as (rig, app, _, _):
            app.lines = b"Cache-Control: max-age=60\r\n"
            await rig.ask(request())
            await rig.ask(request())
            assert len(app.heads) == 1
            session = told(await rig.ask(request("POST", path="/other")), rig)
            assert session is not None
            await rig.ask(request("GET", bring(session, rig)))
            assert len(app.heads) == 3
            await rig.ask(request("GET", bring(Session(session.positions), rig)))
            assert len(app.heads) == 3, "who has only read may have it"


@contextlib.asynccontextmanager
async def two_regions(placement, **options):
    """Yield (edge in den, node in fra, applications, replication); the primary is in fra."""
    den, fra, replication = App(), App(), FakeReplication()
    replication.put("db", "db", lsn(100))
    replication.put("db", REPLICA, lsn(100))
    homes = {"db": FRA}
    async with FakeUpstream(den) as here, FakeUpstream(fra) as there:
        catalog = make_catalog(
            {DEN: [here.endpoint], FRA: [there.endpoint]},
            consistency=terms(**options),
            reads_nearest=frozenset({"db"}),
        )
        nowhere = make_topology({DEN: None, FRA: None})
        guide = FakeGuide(replication, {}, homes)
        async with ProxyRig(catalog, nowhere, region=FRA, guide=guide) as node:
            topology = make_topology({DEN: None, FRA: node.endpoint})
            guide = FakeGuide(replication, {"db": REPLICA}, homes)
            async with ProxyRig(catalog, topology, guide=guide) as edge:
                edge.server.snapshot = PlacementSnapshot(DEN, 1, {}, {SHOP: placement})
                yield edge, node, (den, fra), replication


class TestTwoNodes:
    async def test_a_token_crosses_nodes_both_ways(self):
        async with two_regions(PLACED) as (edge, node, (_, fra), replication):
            replication.put("db", "db", lsn(400))
            session = told(await edge.ask(request("POST")), edge)
            assert session is not None
            assert session.positions == {"db": lsn(400)}
            assert await edge.ask(request("GET", bring(session, edge)))
            assert fra.reads == ["db=db", "db=db"]
            assert kept(node, "fresh") == 1, "the node that runs it sees to it"
            assert kept(edge, "fresh") == 0
            assert b"onetrip-consistency" not in fra.heads[-1]

    async def test_the_client_keeps_a_token_that_did_not_change(self):
        async with two_regions(PLACED) as (edge, _, _, _):
            line = bring(Session({"db": lsn(100)}), edge)
            assert told(await edge.ask(request("GET", line)), edge) is None

    async def test_a_read_that_nothing_here_can_serve_moves_to_the_primary(self):
        async with two_regions(EDGE, wait=0.02) as (edge, _, (den, fra), replication):
            replication.put("db", "db", lsn(300))
            response = await edge.ask(request("GET", bring(Session({"db": lsn(300)}), edge)))
            assert response.header("onetrip-placement") == ["remote-fra"]
            assert (den.reads, fra.reads) == ([], ["db=db"])
            assert kept(edge, "moved") == 1
            assert edge.lines[-1]["consistency"] == "moved"

    async def test_it_stays_and_reads_the_primary_where_it_may_not_move(self):
        async with two_regions(EDGE, wait=0.02) as (edge, node, (den, fra), replication):
            replication.put("db", "db", lsn(300))
            await node.server.stop()
            response = await edge.ask(request("GET", bring(Session({"db": lsn(300)}), edge)))
            assert response.status == 200
            assert (den.reads, fra.reads) == (["db=db"], [])

    async def test_what_is_no_token_goes_no_further(self):
        async with two_regions(PLACED) as (edge, node, (_, fra), _):
            response = await edge.ask(request("GET", "onetrip-consistency: " + "x" * 20000))
            assert response.status == 200
            assert len(fra.heads) == 1
            assert (refused(edge, "malformed"), refused(node, "malformed")) == (1, 0)

    async def test_nowhere_to_run_is_told_as_without_a_promise(self):
        async with two_regions(EDGE) as (edge, _, _, _):
            edge.down.update(pool.target for pool in edge.server._pool._pools.values())
            edge.down.add(Target(TargetKind.PEER, FRA))
            response = await edge.ask(request("GET", bring(Session({"db": lsn(1)}), edge)))
            assert response.status == 503
            assert edge.lines[-1]["error"] == "unavailable"

    async def test_a_node_that_makes_no_tokens_leaves_it_to_the_edge(self):
        async with two_regions(PLACED) as (edge, node, _, replication):
            node.server._services.consistency.update(type(node.server.catalog)())
            replication.put("db", "db", lsn(500))
            session = told(await edge.ask(request("POST")), edge)
            assert session is not None
            assert session.positions == {"db": lsn(500)}
