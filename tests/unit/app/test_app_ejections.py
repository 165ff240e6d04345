"""What people and peers are told about ejected instances."""

from __future__ import annotations

from onetrip.app.ejections import EjectionLog
from onetrip.model.measure import EstimateState, RttEstimate, Target, TargetKind
from onetrip.observe.logs import silent_log
from onetrip.proxy.ejection import Reason, Verdict

ONE, TWO = (Target(TargetKind.INSTANCE, f"10.0.0.{i}:80") for i in (1, 2))


def row(target: Target) -> RttEstimate:
    return RttEstimate(target, 0.001, 0.001, 0.0, 5, 0, 100.0, EstimateState.FRESH)


def test_verdicts_become_events() -> None:
    events: list[tuple[str, str, str]] = []
    log = EjectionLog(lambda *event: events.append(event), silent_log())
    log.note(Verdict("10.0.0.1:80", True, Reason.GATEWAY_ERRORS, 30.0, "5 in a row"))
    log.note(Verdict("10.0.0.1:80", False, Reason.TIME, 0.0, ""))
    assert events == [
        ("proxy.instance_ejected", "10.0.0.1:80", "gateway errors: 5 in a row; for 30 s"),
        ("proxy.instance_returned", "10.0.0.1:80", "its time is over"),
    ]


def test_peers_see_ejected_instances_as_failing() -> None:
    log = EjectionLog(lambda *_: None, silent_log())
    rows = [row(ONE), row(TWO)]
    assert list(log.as_failing(rows)) == rows
    log.note(Verdict(TWO.name, True, Reason.ERRORS, 30.0, "5 in a row"))
    states = {r.target: r.state for r in log.as_failing(rows)}
    assert states == {ONE: EstimateState.FRESH, TWO: EstimateState.FAILING}
    log.note(Verdict(TWO.name, False, Reason.TIME, 0.0, ""))
    assert list(log.as_failing(rows)) == rows
