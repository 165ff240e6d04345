"""From explain records and requests to advice for each backend."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from onetrip.model.advice import BackendAdvice
from onetrip.model.catalog import (
    Backend,
    BackendKind,
    Catalog,
    Environment,
    EnvironmentId,
    Instance,
    Policy,
    Project,
)
from onetrip.model.measure import MethodClass, RouteKey
from onetrip.model.placement import Decision, Placement, Status, TripEstimate, WhatIf
from onetrip.model.replica import Replica
from onetrip.model.topology import Endpoint, RegionId
from onetrip.place.demands import INSIDE, advise_backends
from support.world import matrix_of

DEN, BOM, FRA = (RegionId(name) for name in ("den", "bom", "fra"))
REGIONS = (DEN, BOM, FRA)
RTT = np.array([[0.0, 0.23, 0.11], [0.23, 0.0, 0.13], [0.11, 0.13, 0.0]])
ENV = EnvironmentId("shop", "production")
SPOT = Endpoint("127.0.0.1", 5432)
HERE = Placement(Status.OFF, (DEN,), DEN)


def catalog(policy: Policy | None = None, *, nearest: bool = False) -> Catalog:
    instances = tuple(Instance(region, Endpoint("127.0.0.1", 80)) for region in REGIONS)
    environment = Environment(
        ENV,
        ("shop.example",),
        instances,
        {"db": "db", "cache": "cache"},
        reads_nearest=frozenset({"db"}) if nearest else frozenset(),
    )
    replicas = (Replica("db/fra", SPOT),)
    backends = {
        "db": Backend("db", BackendKind.POSTGRES, SPOT, replicas=replicas),
        "cache": Backend("cache", BackendKind.REDIS, SPOT),
        "idle": Backend("idle", BackendKind.REDIS, SPOT),
    }
    return Catalog(
        {"shop": Project("shop", policy or Policy(), {"production": environment})}, backends
    )


MATRIX = matrix_of(REGIONS, RTT, {"db": BOM, "db/fra": FRA, "cache": DEN, "idle": DEN})


def seen(
    edge: RegionId,
    requests: int,
    *,
    trips: dict[str, float] | None = None,
    method: MethodClass = MethodClass.READ,
    learned_from: int = 50,
) -> tuple[Decision, WhatIf]:
    key = RouteKey(ENV, "/orders", method)
    told = {"db": 11.0, "cache": 0.0} if trips is None else trips
    estimate = TripEstimate(0.004, told, told, told, learned_from, 1, "traffic")
    decision = Decision(key, edge, HERE, estimate, (), None, 0.0, 0.0)
    return decision, WhatIf(key, edge, requests, 0.1, HERE, 0.1, 0.0, 0.0, 0.0)


def advice(
    *rows: tuple[Decision, WhatIf], of: Catalog | None = None, project: str | None = None
) -> dict[str, BackendAdvice]:
    decisions, what_if = [row[0] for row in rows], [row[1] for row in rows]
    found = advise_backends(MATRIX, of or catalog(), decisions, what_if, project)
    return {each.backend: each for each in found}


def test_next_replica_goes_beside_the_readers() -> None:
    found = advice(seen(DEN, 900), seen(DEN, 100, method=MethodClass.WRITE))["db"]
    assert (found.home, found.replicas, found.requests) == (BOM, (("db/fra", FRA),), 1000)
    assert found.advice is not None
    assert found.advice.write_ratio == pytest.approx(0.1)
    # Reads go to the primary as the binding is, so all of them run beside it now.
    assert found.advice.latency == pytest.approx(0.23 + 11 * INSIDE)
    assert found.advice.nearest == pytest.approx(0.9 * 0.11 + 0.1 * 0.23 + 11 * INSIDE)
    plan = found.advice.replicas[0]
    assert plan.regions == (DEN,)
    assert plan.saving == pytest.approx(0.9 * 0.23)
    assert found.advice.primary is not None
    assert found.advice.primary.region == DEN


def test_replicas_that_are_read_from_count_as_what_is_now() -> None:
    found = advice(seen(DEN, 900), of=catalog(nearest=True))["db"]
    assert found.advice is not None
    assert found.advice.latency == pytest.approx(0.11 + 11 * INSIDE)
    assert found.advice.nearest is None


def test_round_trips_to_other_backends_keep_compute_near_those() -> None:
    told = {"db": 1.0, "cache": 30.0}
    found = advice(seen(FRA, 10, trips=told))["db"]
    assert found.advice is not None
    # It runs in den, beside the cache, and from there asks the database.
    assert found.advice.latency == pytest.approx(0.11 + 30 * INSIDE + 0.23)
    assert found.advice.replicas[0].regions == (DEN,)


def test_only_permitted_regions_are_advised() -> None:
    found = advice(seen(DEN, 900), of=catalog(Policy(deny=frozenset({DEN}))))["db"]
    assert found.advice is not None
    places = {region for plan in found.advice.replicas for region in plan.regions}
    assert DEN not in places
    assert found.advice.primary is None or found.advice.primary.region != DEN


def test_no_region_is_advised_from_which_the_primary_is_not_measured() -> None:
    rtt = MATRIX.backend_rtt.copy()
    rtt[MATRIX.regions.index(BOM), MATRIX.backends.index("db")] = np.nan
    decision, row = seen(DEN, 900)
    starting = replace(MATRIX, backend_rtt=rtt)
    found = advise_backends(starting, catalog(), [decision], [row])[0]
    # It is in bom, which has not told yet: a move there would be no move.
    assert found.home == FRA
    assert found.advice is not None
    assert found.advice.primary is not None
    assert found.advice.primary.region == DEN
    assert all(BOM not in plan.regions for plan in found.advice.replicas)
    decision, row = seen(BOM, 900)
    found = advise_backends(starting, catalog(), [decision], [row])[0]
    assert found.advice is not None
    assert found.advice.primary is None or found.advice.primary.region != BOM
    assert all(BOM not in plan.regions for plan in found.advice.replicas)


def test_advice_follows_the_primary_and_counts_the_former_one_as_a_replica() -> None:
    rows = [seen(DEN, 900), seen(DEN, 100, method=MethodClass.WRITE)]
    decisions, what_if = [row[0] for row in rows], [row[1] for row in rows]
    moved = {"db": "db/fra"}
    (db, _) = advise_backends(MATRIX, catalog(nearest=True), decisions, what_if, moved=moved)
    assert (db.primary, db.home, db.replicas) == ("db/fra", FRA, (("db", BOM),))
    assert db.advice is not None
    # Reads and writes go to the promoted one: the former is farther from den.
    assert db.advice.latency == pytest.approx(0.11 + 11 * INSIDE)
    assert db.advice.replicas[0].regions == (DEN,)
    assert db.advice.replicas[0].commit_wait == pytest.approx(0.11)
    assert db.advice.primary is not None
    assert db.advice.primary.region == DEN
    # Compute that uses another backend asks the promoted one as well.
    cache = seen(DEN, 10, trips={"db": 30.0, "cache": 1.0})
    (_, cache_advice) = advise_backends(MATRIX, catalog(), [cache[0]], [cache[1]], moved=moved)
    assert cache_advice.advice is not None
    assert cache_advice.advice.latency == pytest.approx(0.11 + 30 * INSIDE + 0.11)


def test_a_former_primary_that_does_not_answer_is_no_copy_to_read_from() -> None:
    is_failing = MATRIX.backend_is_failing.copy()
    is_failing[:, MATRIX.backends.index("db")] = True
    lost = replace(MATRIX, backend_is_failing=is_failing)
    decision, row = seen(BOM, 900)
    of, moved = catalog(nearest=True), {"db": "db/fra"}
    (db, _) = advise_backends(lost, of, [decision], [row], moved=moved)
    assert db.replicas == (("db", None),)
    assert db.advice is not None
    assert db.advice.latency == pytest.approx(0.13 + 11 * INSIDE)
    (db, _) = advise_backends(lost, of, [decision], [row])
    assert db.home == BOM, "nothing else is known of who the primary is"


@pytest.mark.parametrize(
    "row",
    [
        seen(DEN, 0),
        seen(DEN, 10, trips={"db": 0.0, "cache": 0.0}),
        seen(DEN, 10, learned_from=0),
    ],
)
def test_without_known_traffic_it_says_what_is_missing(row: tuple[Decision, WhatIf]) -> None:
    found = advice(row)["db"]
    assert found.advice is None
    assert found.missing == "needs traffic whose round trips to it are known"


def test_backend_that_nobody_measured_or_that_is_everywhere_has_no_advice() -> None:
    unknown = replace(MATRIX, backend_rtt=np.full(MATRIX.backend_rtt.shape, np.nan))
    decision, row = seen(DEN, 10)
    (db, _) = advise_backends(unknown, catalog(), [decision], [row])
    assert (db.home, db.missing) == (None, "needs an RTT to it")
    (db, _) = advise_backends(MATRIX, catalog(), [decision], [row], anycast=frozenset({"db"}))
    assert db.missing == "it is answered in many places"


def test_other_projects_and_unbound_backends_are_left_out() -> None:
    assert set(advice(seen(DEN, 10))) == {"db", "cache"}
    assert advice(seen(DEN, 10), project="other") == {}
