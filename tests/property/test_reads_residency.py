"""No read is scored with a replica in a region that the project or the binding excludes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from onetrip.app.reads import Reads
from onetrip.model.catalog import (
    Backend,
    BackendKind,
    Catalog,
    Environment,
    EnvironmentId,
    Policy,
    Project,
)
from onetrip.model.replica import Replica
from onetrip.model.topology import Endpoint, RegionId

REGIONS = tuple(RegionId(name) for name in ("den", "fra", "bom", "ams"))
NAMES = tuple(f"db/{n}" for n in range(6))

some_regions = st.frozensets(st.sampled_from(REGIONS))
maybe_region = st.none() | st.sampled_from(REGIONS)


@given(
    places=st.lists(maybe_region, min_size=1, max_size=len(NAMES)),
    home=maybe_region,
    of_project=some_regions,
    allowed=some_regions,
    of_binding=some_regions,
    lagging=st.frozensets(st.sampled_from(NAMES)),
    moved=st.none() | st.sampled_from(("db", *NAMES)),
)
def test_reads_leave_no_permitted_region_unless_for_the_primary(
    places: list[RegionId | None],
    home: RegionId | None,
    of_project: frozenset[RegionId],
    allowed: frozenset[RegionId],
    of_binding: frozenset[RegionId],
    lagging: frozenset[str],
    moved: str | None,
) -> None:
    replicas = tuple(
        Replica(name, Endpoint("127.0.0.1", 1 + n), region)
        for n, (name, region) in enumerate(zip(NAMES, places, strict=False))
    )
    backend = Backend(
        "db", BackendKind.POSTGRES, Endpoint("127.0.0.1", 9), replicas=replicas, region=home
    )
    id = EnvironmentId("shop", "production")
    environment = Environment(
        id, (), (), {"db": "db"}, reads_nearest=frozenset({"db"}), data_deny={"db": of_binding}
    )
    policy = Policy(allow=allowed, deny=of_project)
    catalog = Catalog(
        {"shop": Project("shop", policy, {"production": environment})}, {"db": backend}
    )
    primary = moved if moved in backend.endpoints else "db"
    assert primary is not None
    reads = Reads(catalog, lagging - {primary}, {} if moved is None else {"db": moved})
    assert reads.primary("db") == primary
    chosen = reads.endpoints(id, "db")
    assert chosen

    def is_permitted(name: str) -> bool:
        region = backend.places[name]
        return region is None or (policy.permits(region) and region not in of_binding)

    may = {n for n in backend.endpoints if is_permitted(n) and n not in lagging - {primary}}
    # What is chosen is exactly what may be; the primary alone where nothing may.
    assert set(chosen) == (may or {primary})
    assert all(is_permitted(name) for name in chosen) or chosen == (primary,)
    assert reads.groups[reads.columns[id]["db"]] == chosen


@given(st.data())
def test_environments_with_the_same_exclusions_share_a_column(data: st.DataObject) -> None:
    replicas = tuple(
        Replica(f"db/{region}", Endpoint("127.0.0.1", 1 + n), region)
        for n, region in enumerate(REGIONS)
    )
    backend = Backend("db", BackendKind.POSTGRES, Endpoint("127.0.0.1", 9), replicas=replicas)
    denials = data.draw(st.lists(some_regions, min_size=1, max_size=5))
    projects = {}
    for number, denied in enumerate(denials):
        id = EnvironmentId(f"p{number}", "production")
        environment = Environment(
            id, (), (), {"db": "db"}, reads_nearest=frozenset({"db"}), data_deny={"db": denied}
        )
        projects[id.project] = Project(id.project, Policy(), {"production": environment})
    reads = Reads(Catalog(projects, {"db": backend}))
    assert len(reads.groups) == len(set(denials))
