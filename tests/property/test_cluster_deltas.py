"""Deltas: lost, doubled, out of order, a copy is what was told; without noise it is the report."""

from __future__ import annotations

import math
from dataclasses import replace
from random import Random

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from onetrip.cluster.delta import Delta, ReportCopy, ReportLog, decode_delta, encode_delta
from onetrip.cluster.messages import CodeChange, PolicyRow, Report, ServiceRow
from onetrip.cluster.news import RTT_RATIO, RTT_STEP
from onetrip.model.catalog import EnvironmentId, Mode
from onetrip.model.measure import (
    EstimateState,
    MethodClass,
    RouteKey,
    RttEstimate,
    ServiceSummary,
    Target,
    TargetKind,
)
from onetrip.model.topology import RegionId

BOM = RegionId("bom")
NAMES = ("a", "b", "c", "d")

rtts = st.dictionaries(
    st.sampled_from(NAMES),
    st.tuples(
        st.sampled_from((0.01, 0.0100001, 0.011, 0.25, math.nan)),
        st.sampled_from(list(EstimateState)),
        st.floats(0, 100),
    ),
)
services = st.lists(
    st.tuples(st.sampled_from(NAMES), st.integers(0, 50), st.sampled_from((0.1, 0.2))), max_size=6
)
policies = st.dictionaries(st.sampled_from(NAMES), st.integers(1, 3))
changes = st.dictionaries(st.sampled_from(NAMES), st.floats(0, 1000))


def key(name: str) -> RouteKey:
    return RouteKey(EnvironmentId("shop", "production"), f"/{name}", MethodClass.READ)


@st.composite
def reports(draw: st.DrawFn) -> Report:
    return Report(
        BOM,
        1.0,
        0,
        is_draining=draw(st.booleans()),
        resources=draw(st.sampled_from(("", "x"))),
        rtts=[
            RttEstimate(Target(TargetKind.PEER, n), rtt, rtt, 0.001, 9, 0, age, state)
            for n, (rtt, state, age) in draw(rtts).items()
        ],
        services=[
            ServiceRow(key(n), ServiceSummary(BOM, count, mean, 0.01, {}))
            for n, count, mean in draw(services)
        ],
        code_changes=[CodeChange(key(n), age) for n, age in draw(changes).items()],
        policies=[
            PolicyRow(n, version, BOM, "", Mode.OFF) for n, version in draw(policies).items()
        ],
    )


runs = st.lists(
    st.tuples(reports(), st.floats(0.1, 40), st.lists(st.integers(1, 12), max_size=3)),
    min_size=1,
    max_size=12,
)


def whole(log: ReportLog, now: float) -> Report:
    found = ReportCopy().apply(log.delta(), now)
    assert found is not None
    return found


def rounded(report: Report) -> object:
    """A report without the order of its rows, ages to the millisecond, policies as they merge."""
    return (
        report.seq,
        report.is_draining,
        report.resources,
        sorted(repr(replace(e, updated_at=round(e.updated_at, 3))) for e in report.rtts),
        sorted(repr(row) for row in report.services),
        sorted((str(c.key), round(c.age, 3)) for c in report.code_changes),
    )


@settings(deadline=None)
@given(runs, st.randoms(use_true_random=False))
def test_any_deltas_that_reach_the_newest_report_give_the_same_copy(
    run: list[tuple[Report, float, list[int]]], random: Random
) -> None:
    log, now, sent = ReportLog(), 0.0, list[tuple[Delta, float]]()
    for seq, (report, elapsed, bases) in enumerate(run, 1):
        now += elapsed
        log.note(msgspec.structs.replace(report, seq=seq), now)
        sent.append((log.delta(), now))
        sent += [(log.delta(base), now) for base in bases if base <= seq]
    deltas = [delta for delta, _ in sent]
    lost = [d for d in deltas if random.random() < 0.7]
    random.shuffle(lost)
    copy = ReportCopy()
    for delta in [*lost, *lost[:3]]:
        before = copy.seq
        found = copy.apply(decode_delta(encode_delta(delta)), now)
        assert copy.seq == max(before, copy.seq)
        assert (found is None) == (delta.seq < before or (delta.base or 0) > before)
    found = copy.apply(log.delta(copy.seq if log.has(copy.boot, copy.seq) else None), now)
    assert found is not None
    assert rounded(found)[:3] == rounded(whole(log, now))[:3]  # type: ignore[index]
    rows, wanted = rounded(found), rounded(whole(log, now))
    assert _without_ages(rows) == _without_ages(wanted)


@settings(deadline=None)
@given(runs)
def test_a_copy_that_gets_every_answer_has_what_the_log_tells_and_all_that_is_not_noise(
    run: list[tuple[Report, float, list[int]]],
) -> None:
    log, copy, now = ReportLog(), ReportCopy(), 0.0
    known: dict[str, PolicyRow] = {}
    for seq, (each, elapsed, _) in enumerate(run, 1):
        now += elapsed
        report = msgspec.structs.replace(each, seq=seq)
        log.note(report, now)
        found = copy.apply(decode_delta(log.encoded(copy.boot, copy.seq)), now)
        assert found is not None
        assert rounded(found) == rounded(whole(log, now))
        known |= {row.project: row for row in found.policies}
        assert known.items() >= {row.project: row for row in report.policies}.items()
        assert found.is_draining is report.is_draining
        assert found.resources == report.resources
        by_target = {e.target: e for e in found.rtts}
        assert by_target.keys() == {e.target for e in report.rtts}
        for true in report.rtts:
            told = by_target[true.target]
            assert told.state is true.state
            assert math.isnan(told.rtt) is math.isnan(true.rtt)
            if not math.isnan(true.rtt):
                assert abs(told.rtt - true.rtt) <= max(RTT_STEP, RTT_RATIO * told.rtt)
        assert len(found.services) == len(report.services)


def _without_ages(rows: object) -> object:
    # The ages of a copy count from when its rows came, which for lost answers is later.
    assert isinstance(rows, tuple)
    return [_cut(str(row)) for row in rows[3]], rows[4], [name for name, _ in rows[5]]


def _cut(text: str) -> str:
    head, _, rest = text.partition("updated_at=")
    return head + rest.partition(",")[2]
