"""What a worker tells about exchanges, and what it does when nobody takes it."""

from __future__ import annotations

from typing import Any

from onetrip.app.worker_messages import Lines, Seen
from onetrip.app.worker_outbox import BATCH, MAX_UNSENT, ObservationOutbox
from onetrip.model.catalog import EnvironmentId
from onetrip.model.measure import Arm, MethodClass, Observation, RouteKey
from onetrip.model.topology import RegionId
from onetrip.observe.metrics import Metrics

DEN = RegionId("den")


class FakeLink:
    """Keeps what is sent; `unsent` is what the other end has not taken."""

    def __init__(self) -> None:
        self.unsent = 0
        self.sent: list[Any] = []

    def send(self, message: Any) -> None:
        self.sent.append(message)


def seen() -> Observation:
    key = RouteKey(EnvironmentId("shop", "production"), "/", MethodClass.READ)
    return Observation(key, DEN, DEN, Arm.DEFAULT, 0.1, None, False, False, 1.0)


def dropped(metrics: Metrics) -> float | None:
    return metrics.registry.get_sample_value("onetrip_app_observations_dropped_total")


async def test_batch_leaves_at_once_when_it_is_full_and_otherwise_together() -> None:
    link, metrics = FakeLink(), Metrics()
    outbox = ObservationOutbox(link, metrics)  # type: ignore[arg-type]
    for _ in range(BATCH + 1):
        outbox.take(seen())
    assert [len(message.observations) for message in link.sent] == [BATCH]
    outbox.lines.write({"status": 200})
    outbox.flush()
    assert link.sent[1:] == [Seen([seen()]), Lines([b'{"status":200}'], [])]
    outbox.flush()
    assert len(link.sent) == 3  # nothing waits, nothing is sent
    assert dropped(metrics) == 0


async def test_what_the_node_does_not_take_is_dropped_and_counted() -> None:
    link, metrics = FakeLink(), Metrics()
    outbox = ObservationOutbox(link, metrics)  # type: ignore[arg-type]
    link.unsent = MAX_UNSENT + 1
    outbox.take(seen())
    outbox.lines.write({"status": 200})
    outbox.flush()
    assert (link.sent, dropped(metrics), outbox.lines.dropped) == ([], 1, 1)
    link.unsent = 0
    outbox.take(seen())
    outbox.flush()
    assert link.sent == [Seen([seen()])]
