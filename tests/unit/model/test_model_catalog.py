"""Which catalogs serve alike: only what placement is told to do may differ."""

from __future__ import annotations

from dataclasses import replace

import pytest

from onetrip.model.catalog import (
    Catalog,
    Environment,
    EnvironmentId,
    Forwarding,
    Instance,
    Mode,
    Policy,
    Project,
)
from onetrip.model.topology import Endpoint, RegionId

DEN = RegionId("den")
INSTANCE = Instance(DEN, Endpoint("127.0.0.1", 9000))
ENVIRONMENT = Environment(EnvironmentId("shop", "x"), ("shop.test",), (INSTANCE,), {})
SHOP = Project("shop", Policy(), {"x": ENVIRONMENT})
CATALOG = Catalog({"shop": SHOP}, {})


def of(project: Project) -> Catalog:
    return replace(CATALOG, projects={"shop": project}, version=7)


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        (CATALOG, True),
        (of(replace(SHOP, policy=Policy(mode=Mode.SMART, hint=DEN, share=0.5))), True),
        (of(replace(SHOP, policy=Policy(deny=frozenset({DEN})))), False),
        (of(replace(SHOP, policy=Policy(forwarding=Forwarding.DIRECT))), False),
        (of(replace(SHOP, environments={"x": replace(ENVIRONMENT, capacity=3)})), False),
        (of(replace(SHOP, variants=(ENVIRONMENT,))), False),
        (Catalog({**CATALOG.projects, "more": SHOP}, {}), False),
        (Catalog({}, {}), False),
    ],
    ids=["same", "mode", "regions", "forwarding", "environment", "variant", "added", "removed"],
)
def test_only_the_wishes_for_placement_may_differ(other: Catalog, expected: bool) -> None:
    assert other.serves_like(CATALOG) is expected
    assert CATALOG.serves_like(other) is expected
