"""The ejection machine under any events: bounds on who is out hold at every moment."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from onetrip.proxy.ejection import EjectionSettings, Ejector, Failure, Health

ALL = 7
settings_of_any_kind = st.builds(
    EjectionSettings,
    errors=st.integers(0, 3),
    gateway_errors=st.integers(0, 2),
    connect_errors=st.integers(0, 2),
    interval=st.sampled_from([1.0, 5.0]),
    least_requests=st.integers(1, 3),
    failure_ratio=st.sampled_from([0.0, 0.3, 1.0]),
    deviation=st.sampled_from([0.0, 0.5, 1.9]),
    base_time=st.sampled_from([1.0, 3.0]),
    max_time=st.sampled_from([3.0, 10.0]),
    max_share=st.sampled_from([0.0, 0.2, 0.34, 0.5, 0.9, 1.0]),
)
groups = st.lists(st.sets(st.integers(0, ALL - 1), min_size=1), max_size=3)
events = st.lists(
    st.one_of(
        st.tuples(st.just("fail"), st.integers(0, ALL - 1), st.sampled_from(Failure)),
        st.tuples(st.just("succeed"), st.integers(0, ALL - 1)),
        st.tuples(st.just("wait"), st.sampled_from([0.1, 1.0, 4.0, 20.0])),
        st.tuples(st.just("update"), groups),
        st.tuples(st.just("down"), st.integers(0, ALL - 1)),
        st.tuples(st.just("up"), st.integers(0, ALL - 1)),
    ),
    max_size=120,
)


class Run:
    """One run of the machine, with the state that its verdicts add up to."""

    def __init__(self, settings: EjectionSettings, first: list[set[int]]) -> None:
        self.settings = settings
        self.fleet = [Health(str(i)) for i in range(ALL)]
        self.down: set[Health] = set()
        self.now = 0.0
        self.told: set[Health] = set()
        self.ejector = Ejector(settings, lambda h: h not in self.down, lambda _: None, self.now)
        self.groups: list[set[int]] = []
        self.update(first)

    def update(self, groups: list[set[int]]) -> None:
        self.groups = groups
        members = [[self.fleet[i] for i in sorted(group)] for group in groups]
        self.take(self.ejector.update(members, self.now))

    def take(self, verdicts) -> None:
        for verdict in verdicts:
            health = self.fleet[int(verdict.instance)]
            assert (health in self.told) is not verdict.is_ejected
            if verdict.is_ejected:
                assert 0 < verdict.duration <= self.settings.max_time
                self.check_fallback(health)
                self.told.add(health)
            else:
                self.told.remove(health)

    def check_fallback(self, health: Health) -> None:
        """Whoever is ejected leaves somebody who can serve, in each of its groups."""
        for group in self.groups:
            members = [self.fleet[i] for i in group]
            if health in members:
                assert any(not h.is_ejected and h not in self.down for h in members)

    def apply(self, event) -> None:
        name, value = event[0], event[1]
        if name == "fail":
            verdict = self.ejector.note_failure(self.fleet[value], event[2], self.now)
            self.take([verdict] if verdict else [])
        elif name == "succeed":
            self.fleet[value].note_success()
        elif name == "wait":
            self.now += value
            self.take(self.ejector.tick(self.now))
        elif name == "update":
            self.update(value)
        elif name == "down":
            self.down.add(self.fleet[value])
        else:
            self.down.discard(self.fleet[value])

    def check(self) -> None:
        grouped = {i for group in self.groups for i in group}
        assert self.told == {self.fleet[i] for i in grouped if self.fleet[i].is_ejected}
        assert self.ejector.ejected == len(self.told)
        for group in self.groups:
            ejected = sum(self.fleet[i].is_ejected for i in group)
            assert ejected < len(group)
            assert ejected <= self.settings.max_share * len(group) + 1e-9


@given(settings_of_any_kind, groups, events)
@settings(max_examples=300, deadline=None)
def test_bounds_hold_after_every_event(rules, first, steps):
    run = Run(rules, first)
    for step in steps:
        run.apply(step)
        run.check()


@given(settings_of_any_kind, groups, events)
@settings(max_examples=300, deadline=None)
def test_everybody_is_back_in_the_end(rules, first, steps):
    run = Run(rules, first)
    for step in steps:
        run.apply(step)
    run.apply(("wait", rules.interval))  # judges the last window that saw requests
    run.apply(("wait", rules.max_time))
    assert run.told == set()
