"""Deltas: small while nothing is new, bounded, and nothing unchecked gets in."""

from __future__ import annotations

import zlib

import msgspec
import pytest

from onetrip.cluster.delta import (
    KEPT_GONE,
    Delta,
    ReportCopy,
    ReportLog,
    decode_delta,
    encode_delta,
)
from onetrip.cluster.messages import MAX_REPORT_SIZE, CodeChange, EndpointRow, Report
from onetrip.cluster.news import AGE_STEP, ENDPOINT_AGE_STEP, SECTIONS
from onetrip.cluster.state import hold_time, silent_after
from onetrip.cluster.telling import Known
from onetrip.errors import PeerError
from onetrip.model.catalog import EnvironmentId
from onetrip.model.measure import (
    EstimateState,
    MethodClass,
    RouteKey,
    RttEstimate,
    Target,
    TargetKind,
)
from onetrip.model.replication import Role
from onetrip.model.topology import RegionId

BOM = RegionId("bom")


def estimate(name: str, rtt: float = 0.1, age: float = 1.0) -> RttEstimate:
    target = Target(TargetKind.BACKEND, name)
    return RttEstimate(target, rtt, rtt, 0.001, 9, 0, age, EstimateState.FRESH)


def report(seq: int, *rows: RttEstimate, boot: float = 1.0, **more: object) -> Report:
    return Report(BOM, boot, seq, rtts=list(rows), **more)  # type: ignore[arg-type]


def told(log: ReportLog, base: int) -> list[str]:
    return [row.target.name for _, row in log.delta(base).rtts]


def test_only_what_moved_by_more_than_noise_is_told() -> None:
    log = ReportLog()
    log.note(report(1, estimate("a"), estimate("b"), estimate("c")), 0.0)
    log.note(report(2, estimate("a", 0.101), estimate("b", 0.11), estimate("c")), 1.0)
    assert told(log, 1) == ["b"]
    log.note(report(3, estimate("a", 0.103), estimate("b", 0.11), estimate("c")), 2.0)
    assert told(log, 2) == ["a"]  # steps add up: what counts is what was told last
    assert sorted(told(log, 1)) == ["a", "b"]
    assert told(log, 3) == []


def test_what_was_measured_again_is_told_before_it_looks_old() -> None:
    log = ReportLog()
    log.note(report(1, estimate("a", age=0.0), estimate("b", age=0.0)), 0.0)
    later = AGE_STEP + 1
    log.note(report(2, estimate("a", age=later), estimate("b", age=0.0)), later)
    assert told(log, 1) == ["b"]


def test_a_promotion_is_told_at_once_and_a_lag_when_it_moved() -> None:
    log = ReportLog()

    def tell(seq: int, at: float, role: Role, lag: float, age: float = 0.5) -> list[EndpointRow]:
        row = EndpointRow("db/a", role, "0/5", lag, age=age)
        log.note(Report(BOM, 1.0, seq, endpoints=[row]), at)
        return [each for _, each in log.delta(seq - 1).endpoints]

    tell(1, 0.0, Role.REPLICA, 1.0)
    assert tell(2, 1.0, Role.REPLICA, 1.2, age=1.5) == []
    assert [row.lag for row in tell(3, 2.0, Role.REPLICA, 1.6)] == [1.6]
    assert log.urgent_seq == 0
    assert [row.role for row in tell(4, 2.5, Role.PRIMARY, 0.0)] == [Role.PRIMARY]
    assert log.urgent_seq == 4
    assert tell(5, 2.5 + ENDPOINT_AGE_STEP - 0.1, Role.PRIMARY, 0.0) == []
    assert len(tell(6, 2.5 + ENDPOINT_AGE_STEP + 0.1, Role.PRIMARY, 0.0)) == 1
    copy = ReportCopy()
    copy.apply(log.delta(), 10.0)
    later = copy.apply(log.delta(6), 12.0)
    assert later is not None
    assert [row.age for row in later.endpoints] == [2.5]


def test_ages_go_on_in_the_copy() -> None:
    log, copy = ReportLog(), ReportCopy()
    log.note(report(1, estimate("a", age=2.0)), 100.0)
    copy.apply(log.delta(), 5.0)
    log.note(report(2, estimate("a", age=5.0)), 103.0)
    found = copy.apply(log.delta(1), 9.0)
    assert found is not None
    assert [row.updated_at for row in found.rtts] == [6.0]


def test_a_quiet_answer_is_small_and_a_whole_one_compressed() -> None:
    log = ReportLog()
    rows = [estimate(f"backend-{n}") for n in range(200)]
    log.note(report(1, *rows), 0.0)
    log.note(report(2, *rows), 1.0)
    assert len(log.encoded(1.0, 1)) < 64
    whole = log.encoded(1.0, 0)
    assert len(whole) < len(msgspec.msgpack.encode(log.delta())) / 5
    assert len(decode_delta(whole).rtts) == 200


def test_who_restarted_or_is_too_far_behind_gets_everything() -> None:
    log = ReportLog()
    log.note(report(1, estimate("a")), 0.0)
    log.note(report(2, estimate("a")), 1.0)
    assert log.delta(1).base == 1
    assert decode_delta(log.encoded(2.0, 1)).base is None
    assert decode_delta(log.encoded(1.0, 3)).base is None
    crowd = [estimate(f"x{n}") for n in range(KEPT_GONE + 1)]
    log.note(report(3, *crowd), 2.0)
    log.note(report(4), 3.0)
    assert not log.has(1.0, 3)
    assert log.has(1.0, 4)


@pytest.mark.parametrize(
    "delta",
    [Delta(BOM, 2.0, 9, base=1), Delta(BOM, 1.0, 9, base=6), Delta(BOM, 1.0, 4, base=1)],
    ids=["of another start", "of a newer copy", "of an older report"],
)
def test_a_delta_that_does_not_fit_changes_nothing(delta: Delta) -> None:
    copy = ReportCopy()
    first = copy.apply(Delta(BOM, 1.0, 5, rtts=[(1, estimate("a"))]), 0.0)
    assert copy.apply(delta, 1.0) is None
    assert (copy.boot, copy.seq) == (1.0, 5)
    again = copy.apply(Delta(BOM, 1.0, 5, base=5), 0.0)
    assert again == first


def test_copies_are_bounded() -> None:
    copy, most = ReportCopy(), next(s.most for s in SECTIONS if s.name == "code_changes")
    key = RouteKey(EnvironmentId("shop", "production"), "/", MethodClass.READ)
    crowd = [(n, CodeChange(key, 1.0)) for n in range(most + 1)]
    with pytest.raises(PeerError, match="1001 rows of code_changes exceed limit of 1000"):
        copy.apply(Delta(BOM, 1.0, 1, code_changes=crowd), 0.0)
    assert copy.seq == 0  # asks for everything again


def test_what_is_no_delta_or_out_of_range_is_refused() -> None:
    good = encode_delta(Delta(BOM, 1.0, 1, rtts=[(n, estimate(f"db{n}")) for n in range(9)]))
    assert decode_delta(good).seq == 1
    bomb = zlib.compress(bytes(MAX_REPORT_SIZE + 1))
    absurd = encode_delta(Delta(BOM, 1.0, 1, rtts=[(1, estimate("db", 61.0))]))
    unknown = msgspec.msgpack.encode({"region": "bom", "boot": 1.0, "seq": 1, "x": 1})
    cases = {
        b"": "cannot be read",
        b"\xc1": "cannot be read",
        good[:-5]: "cannot be read",
        bomb: "exceeds limit",
        absurd: "rtt of backend:db",
        unknown: "unknown field",
    }
    for data, reason in cases.items():
        with pytest.raises(PeerError, match=reason):
            decode_delta(data)


def test_a_question_says_what_is_known_and_nothing_else_is_taken_for_one() -> None:
    known = Known(1_750_000_000.123456, 4711, 2.5)
    assert Known.parse(str(known).split(".")) == known
    zeros = "0" * 16
    for text in ("", "1.2.3", f"{zeros}.1", f"{zeros}.-1.5", f"{zeros}.1.x", "z" * 16 + ".1.1"):
        with pytest.raises(ValueError):  # noqa: PT011
            Known.parse(text.split("."))


def test_large_clusters_wait_longer_but_never_long() -> None:
    assert hold_time(1.0, 1) == hold_time(1.0, 30) == 2.0
    assert hold_time(1.0, 60) == 4.0
    assert hold_time(1.0, 330) == 10.0
    assert hold_time(60.0, 1) == 60.0
    assert silent_after(1.0, 3) == 5.0
    assert silent_after(1.0, 330) == 21.0
