"""Matrix files and address plans."""

from __future__ import annotations

import pytest

from onetrip.errors import ConfigError
from onetrip.model.topology import Endpoint
from onetrip_lab.topology import INTRA_RTT, AddressPlan, default_matrix, parse_matrix

PLAN = AddressPlan(("den", "bom", "fra"))


def test_packaged_matrix_has_the_measured_rtts() -> None:
    matrix = default_matrix()
    assert matrix.regions == ("den", "bom", "fra")
    assert matrix.rtt("den", "bom") == matrix.rtt("bom", "den") == 0.229
    assert (matrix.rtt("den", "fra"), matrix.rtt("bom", "fra")) == (0.136, 0.117)
    assert matrix.rtt("fra", "fra") == INTRA_RTT
    assert matrix.title("bom") == "Mumbai"


def test_provider_prefix_is_dropped_from_ids() -> None:
    matrix = parse_matrix(
        "id,azure:westindia,aws:us-east-1\nazure:westindia,0,9\naws:us-east-1,8,0", "f"
    )
    assert matrix.regions == ("westindia", "us-east-1")
    assert matrix.rtt("us-east-1", "westindia") == 0.009
    assert (matrix.title("westindia"), matrix.position("westindia")) == ("westindia", None)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no header"),
        ("id,a\na,0", "1 regions"),
        ("id," + ",".join(f"r{i}" for i in range(13)), "13 regions"),
        ("id,a,a\na,0,1\na,1,0", "named twice"),
        ("id,a,b\na,0,1", "1 rows for 2 columns"),
        ("id,a,b\na,0,1\nc,1,0", "row 'c' does not match column 'b'"),
        ("id,a,b\na,0,1\nb,1", "row 'b'"),
        ("id,a,b\na,0,x\nb,1,0", "a to b: 'x' is no number"),
        ("id,a,b\na,0,-1\nb,1,0", "a to b: -1 ms"),
        ("id,a,b\na,0,nan\nb,1,0", "a to b: nan ms"),
        ("id,a,b\na,0,10001\nb,1,0", "at most 10000"),
        ("id,a,B!\na,0,1\nB!,1,0", "'B!' cannot name a region"),
    ],
)
def test_bad_matrix_is_refused_with_its_reason(text: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=f"^m.csv: .*{reason}"):
        parse_matrix(text, "m.csv")


def test_every_component_has_an_address_of_its_own() -> None:
    endpoints = PLAN.all_endpoints("bom")
    assert len(endpoints) == len(set(endpoints)) == 2 * (3 * 3 + 1) + 3


def test_far_address_differs_only_in_its_network() -> None:
    assert PLAN.database("bom") == Endpoint("127.77.2.50", 5432)
    assert PLAN.far_of(PLAN.database("bom")) == Endpoint("127.78.2.50", 5432)


@pytest.mark.parametrize(
    ("address", "region"),
    [
        ("127.77.1.1", "den"),
        ("127.77.3.10", "fra"),
        ("127.77.4.1", None),
        ("127.77.0.1", None),
        ("127.0.0.1", None),
        ("127.77.x.1", None),
        ("::1", None),
    ],
)
def test_region_follows_from_the_source_address(address: str, region: str | None) -> None:
    assert PLAN.region_of(address) == region
