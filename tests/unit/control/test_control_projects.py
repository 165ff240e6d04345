"""What is told of a project as a whole."""

from __future__ import annotations

from dataclasses import replace

from onetrip.control.projects import promise_of
from onetrip.model.catalog import Environment, EnvironmentId, Policy, Project
from onetrip.model.consistency import Consistency

ID = EnvironmentId("shop", "production")
PLAIN = Project("shop", Policy(), {"production": Environment(ID, (), (), {})})


def test_a_promise_is_told_with_its_bound_and_without_its_keys() -> None:
    assert promise_of(PLAIN) is None
    terms = Consistency((b"a secret",), wait=0.25)
    environment = replace(PLAIN.environments["production"], consistency=terms)
    told = promise_of(replace(PLAIN, environments={"production": environment}))
    assert told is not None
    assert told.startswith("session: reads wait at most 250 ms")
    assert "secret" not in told
