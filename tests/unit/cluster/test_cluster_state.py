"""The merged view: any order of arrival gives the same, and nothing unchecked gets in."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from onetrip.cluster.messages import (
    CodeChange,
    EndpointRow,
    PolicyRow,
    Report,
    ServiceRow,
    decode_report,
    encode_report,
)
from onetrip.cluster.state import ClusterState
from onetrip.cluster.tickets import sign, verify
from onetrip.errors import PeerError
from onetrip.model.catalog import EnvironmentId, Mode
from onetrip.model.distribution import Distribution
from onetrip.model.measure import (
    Arm,
    EstimateState,
    MethodClass,
    RouteKey,
    RttEstimate,
    ServiceSummary,
    Target,
    TargetKind,
)
from onetrip.model.replication import EndpointState, Role, lsn
from onetrip.model.status import LatencySummary
from onetrip.model.topology import RegionId

DEN, BOM, FRA = RegionId("den"), RegionId("bom"), RegionId("fra")
DB = Target(TargetKind.BACKEND, "db")
KEY = RouteKey(EnvironmentId("shop", "production"), "/", MethodClass.READ)


def estimate(rtt: float, age: float = 1.0) -> RttEstimate:
    return RttEstimate(DB, rtt, rtt, 0.001, 9, 0, age, EstimateState.FRESH)


def report(region: RegionId = BOM, boot: float = 1.0, seq: int = 1, rtt: float = 0.1) -> Report:
    return Report(region, boot, seq, rtts=[estimate(rtt)])


def state() -> ClusterState:
    return ClusterState(DEN, frozenset({DEN, BOM, FRA}), silent_after=5.0)


def policy(version: int, origin: RegionId = BOM, mode: Mode = Mode.SMART) -> PolicyRow:
    return PolicyRow("shop", version, origin, "base", mode)


def latency(*counts: tuple[int, int]) -> LatencySummary:
    trial = Distribution(3, 0.2, counts)
    return LatencySummary(KEY, BOM, Arm.PLACED, 3, 0.2, 0.2, 0.3, 0.3, trial)


def test_report_survives_the_wire() -> None:
    summary = ServiceSummary(BOM, 3, 0.1, math.inf, {"db": math.nan})
    sent = Report(
        BOM,
        1.0,
        7,
        True,
        [estimate(math.nan)],
        [ServiceRow(KEY, summary)],
        latencies=[latency((4, 1), (9, 2))],
        policies=[policy(1)],
    )
    assert repr(decode_report(encode_report(sent))) == repr(sent)


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (report(rtt=-0.1), "rtt of backend:db of -0.1 s is not in 0..60 s"),
        (report(rtt=61.0), "rtt of backend:db of 61 s"),
        (Report(BOM, 1.0, -1), "cannot be read"),
        (
            Report(BOM, 1.0, 1, services=[ServiceRow(KEY, ServiceSummary(BOM, 3, -1.0, 0, {}))]),
            "mean of shop/production read / of -1 s",
        ),
        (
            Report(BOM, 1.0, 1, services=[ServiceRow(KEY, ServiceSummary(BOM, -3, 1.0, 0, {}))]),
            "count or error",
        ),
        (Report(BOM, 1.0, 1, latencies=[latency((4, 7))]), "distribution of shop/production"),
        (Report(BOM, 1.0, 1, code_changes=[CodeChange(KEY, -1.0)]), "age of the change of"),
        (Report(BOM, 1.0, 1, code_changes=[CodeChange(KEY, math.nan)]), "is not in 0..86400 s"),
    ],
)
def test_report_out_of_range_is_refused(bad: Report, reason: str) -> None:
    with pytest.raises(PeerError, match=reason):
        decode_report(encode_report(bad))


@pytest.mark.parametrize("data", [b"", b"\xff" * 40, b"{}", b"\x91" * 100_000])
def test_garbage_is_refused(data: bytes) -> None:
    with pytest.raises(PeerError, match="cannot be read"):
        decode_report(data)


def test_unknown_fields_are_refused() -> None:
    extra = msgspec.msgpack.encode({"region": "bom", "boot": 1.0, "seq": 1, "surprise": 1})
    with pytest.raises(PeerError, match="surprise"):
        decode_report(extra)


def test_merge_is_commutative_associative_and_idempotent() -> None:
    reports = [
        report(seq=1, rtt=0.1),
        report(seq=2, rtt=0.2),
        report(boot=2.0, seq=1, rtt=0.3),
        replace_policies(report(FRA, seq=5), policy(2, FRA, Mode.OFF)),
        replace_policies(report(FRA, seq=4), policy(2, BOM)),
    ]
    results = set()
    for order in itertools.permutations(reports):
        merged = state()
        for each in (*order, order[0]):
            merged.merge(each, 100.0)
        row = merged.rows(100.0)
        results.add((row[BOM][DB].rtt, row[FRA][DB].rtt, merged.policies()["shop"]))
    assert results == {(0.3, 0.1, policy(2, FRA, Mode.OFF))}


def replace_policies(base: Report, *rows: PolicyRow) -> Report:
    return msgspec.structs.replace(base, policies=list(rows))


def test_only_news_is_returned() -> None:
    merged = state()
    message = replace_policies(report(), policy(1))
    assert merged.merge(message, 1.0) == [policy(1)]
    assert merged.merge(message, 2.0) == []


def test_a_peer_cannot_speak_for_this_node_or_for_strangers() -> None:
    merged = state()
    merged.merge(report(DEN), 1.0)
    merged.merge(report(RegionId("mars")), 1.0)
    assert merged.rows(1.0) == {}


def test_silent_peer_is_gone_and_its_row_is_stale() -> None:
    merged = state()
    merged.merge(report(), 100.0)
    by_region = {p.region: p for p in merged.peers(104.0)}
    assert by_region[BOM].is_alive
    assert not by_region[FRA].is_alive
    assert by_region[FRA].age == math.inf
    late = merged.rows(106.0)[BOM][DB]
    assert late.state is EstimateState.STALE
    assert late.updated_at == pytest.approx(99.0), "age on arrival plus time since"
    assert not {p.region: p for p in merged.peers(106.0)}[BOM].is_alive


def test_an_old_report_again_does_not_keep_a_peer_alive() -> None:
    merged = state()
    merged.merge(report(seq=2), 100.0)
    merged.merge(report(seq=1), 106.0)
    assert not {p.region: p for p in merged.peers(106.0)}[BOM].is_alive


def test_mac_binds_purpose_parts_and_secret() -> None:
    mac = sign(b"k" * 16, "a", b"xy", b"z")
    assert verify(b"k" * 16, mac, "a", b"xy", b"z")
    assert not verify(b"k" * 16, mac, "b", b"xy", b"z")
    assert not verify(b"k" * 16, mac, "a", b"x", b"yz")
    assert not verify(b"j" * 16, mac, "a", b"xy", b"z")
    assert not verify(b"k" * 16, "é", "a", b"xy", b"z")


def test_age_is_measured_by_the_receiver() -> None:
    merged = state()
    merged.merge(Report(BOM, 1.0, 1, False, [replace(estimate(0.1), updated_at=30.0)]), 100.0)
    assert merged.rows(101.0)[BOM][DB].updated_at == pytest.approx(70.0)


def test_latest_change_of_code_counts_whoever_noticed() -> None:
    merged = state()
    for region, age in ((BOM, 50.0), (FRA, 40.0)):
        sent = Report(region, 1.0, 1, code_changes=[CodeChange(KEY, age)])
        merged.merge(decode_report(encode_report(sent)), 1000.0)
    assert merged.code_changes() == {KEY: 960.0}


def told(endpoint: str, **changes: Any) -> EndpointRow:
    row = EndpointRow(endpoint, Role.REPLICA, "0/5", 1.5, 80)
    return msgspec.structs.replace(row, **changes)


def test_of_an_endpoint_the_newest_word_of_any_peer_counts() -> None:
    merged = state()
    early = told("db/a", position="0/3", age=4.0)
    merged.merge(Report(BOM, 1.0, 1, endpoints=[early, told("db")]), 100.0)
    merged.merge(Report(FRA, 1.0, 1, endpoints=[told("db/a", age=0.5)]), 101.0)
    found = merged.endpoints(103.0, ["db", "db/a"])
    assert found["db"] == EndpointState(Role.REPLICA, lsn(5), 1.5, 80, age=3.0)
    assert found["db/a"].position == lsn(5)
    assert found["db/a"].age == 2.5


def test_endpoints_cross_the_wire_as_they_are_and_only_where_there_are_some() -> None:
    row = told("db/a", position="0-1-18446744073709551615", timeline=3, is_replicating=False)
    sent = Report(BOM, 1.0, 1, endpoints=[row])
    assert decode_report(encode_report(sent)) == sent
    unknown = decode_report(
        encode_report(Report(BOM, 1.0, 1, endpoints=[told("db", lag=math.nan)]))
    )
    assert math.isnan(unknown.endpoints[0].lag)
    assert b"endpoints" not in encode_report(report()), (
        "an older node refuses what it does not know"
    )


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"position": "0/"}, "position of db"),
        ({"position": "9" * 5000}, "cannot be read"),
        ({"lag": -1.0}, "lag of db"),
        ({"age": -1.0}, "age of db"),
        ({"age": math.nan}, "age of db is not known"),
        ({"lag_bytes": -1}, "cannot be read"),
        ({"endpoint": "x" * 129}, "cannot be read"),
    ],
)
def test_what_a_peer_says_of_an_endpoint_is_checked(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(PeerError, match=reason):
        decode_report(
            encode_report(Report(BOM, 1.0, 1, endpoints=[told(**({"endpoint": "db"} | changes))]))
        )
