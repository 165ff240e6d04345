"""The Prometheus rules: each alert fires when it should and is silent when it should be."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from support.queries import faults
from support.servers import require_program

ROOT = Path(__file__).parents[2]
RULES = ROOT / "deploy" / "prometheus" / "onetrip.rules.yml"

NODE = 'job="onetrip", instance="den:9400"'
DAY = 86400


class Case(NamedTuple):
    """What is scraped each minute, in promtool's notation, and when to look.

    Attributes:
        fires, silent: values by series, with the alert firing or not at the end.
        at: minutes after the start.
        fired: labels of the firing alert beside `NODE`'s and its severity; None skips `NODE`'s.
    """

    fires: dict[str, str]
    silent: dict[str, str]
    at: int = 20
    labels: dict[str, str] = {}  # noqa: RUF012 (never changed)
    is_per_node: bool = True


def series(name: str, **labels: str) -> str:
    return f"{name}{{{NODE}{''.join(f', {key}={value!r}' for key, value in labels.items())}}}"


def requests(errors: str, minutes: int) -> dict[str, str]:
    """Return 600 requests a minute, and `errors` more with 5xx."""
    name = "onetrip_proxy_requests_total"
    return {
        series(name, route="shop/production", status_class="2xx"): f"0+600x{minutes}",
        series(name, route="shop/production", status_class="5xx"): errors,
    }


def gauge(name: str, bad: str, good: str, at: int = 20, **labels: str) -> Case:
    """Return the case of an alert about one gauge or counter."""
    which = series(name, **labels)
    return Case({which: bad}, {which: good}, at, labels)


SHOP = {"route": "shop/production"}
RETRIES = series("onetrip_proxy_retries_total")
PROBES = series("onetrip_probe_probes_total", kind="backend")
PROBE_FAILURES = series("onetrip_probe_failures_total", kind="backend", failure="timeout")
REPLICA = {"endpoint": "orders-db/fra"}
LATE = series("onetrip_probe_replica_fresh", **REPLICA)
AGE = series("onetrip_cluster_peer_age_seconds", region="bom")
SYNC_FAILURES = series("onetrip_cluster_sync_failures_total", region="bom")

CASES = {
    # 1.6 % for a bit over an hour; a burst of 50 % that is over after four minutes.
    "OnetripErrorBudgetBurnsFast": [
        Case(requests("0+10x70", 70), requests("0+3x70", 70), 70, SHOP, is_per_node=False),
        Case(
            requests("0+10x70", 70), requests("0+600x4 2400+0x76", 80), 70, SHOP, is_per_node=False
        ),
    ],
    "OnetripErrorBudgetBurnsSlowly": [
        Case(requests("0+5x380", 380), requests("0+1x380", 380), 380, SHOP, is_per_node=False)
    ],
    "OnetripRouteUnreachable": [
        gauge("onetrip_place_routes", "0x5 2x15", "0x15 2x1 0x4", status="unreachable"),
    ],
    "OnetripTooManyInstancesFail": [
        Case(
            {series("onetrip_proxy_ejections_kept_total", reason="consecutive"): "0x15 1x5"},
            {series("onetrip_proxy_ejections_kept_total", reason="consecutive"): "3x20"},
        )
    ],
    "OnetripInstanceEjected": [gauge("onetrip_proxy_ejected_instances", "1x20", "0x10 1x10")],
    "OnetripRetriesNearBudget": [
        Case(
            requests("0x20", 20) | {RETRIES: "0+110x20"},
            requests("0x20", 20) | {RETRIES: "0+20x20"},
        ),
        # Two of ten requests: too few to say anything.
        Case(
            requests("0x20", 20) | {RETRIES: "0+110x20"},
            {series("onetrip_proxy_requests_total", **SHOP): "0+10x20", RETRIES: "0+2x20"},
        ),
    ],
    "OnetripLimitsRefuse": [
        gauge("onetrip_proxy_overflows_total", "0+30x20", "0x4 50x16", limit="requests")
    ],
    "OnetripOwnFailures": [
        Case(
            {series("onetrip_proxy_errors_total", side="ours", kind="invalid"): "0x15 1x5"},
            {
                series("onetrip_proxy_errors_total", side="ours", kind="invalid"): "7x20",
                series("onetrip_proxy_errors_total", side="upstream", kind="reset"): "0+5x20",
            },
            labels={"kind": "invalid"},
        )
    ],
    "OnetripPlacementHarms": [
        gauge("onetrip_place_saving_seconds", "-0.02x20", "-0.02x8 0.2x12", **SHOP)
    ],
    "OnetripPlacementNotHelping": [
        gauge("onetrip_place_routes", "1x80", "1x30 0x10 1x40", 80, status="not helping")
    ],
    "OnetripPlacementStalled": [
        gauge("onetrip_place_score_duration_seconds_count", "0+120x5 600x20", "0+1x25", 25)
    ],
    "OnetripProbesFail": [
        Case(
            {PROBES: "0+12x20", PROBE_FAILURES: "0+12x20"},
            {PROBES: "0+12x20", PROBE_FAILURES: "0+4x20"},
            labels={"kind": "backend"},
        )
    ],
    "OnetripReplicaLags": [
        # Back for a moment, as one that swings about its limit is.
        Case({LATE: "1x5 0x15"}, {LATE: "0x8 1x1 0x9 1x2"}, labels=REPLICA, is_per_node=False),
        # One of two nodes leaves it out.
        Case(
            {LATE: "0x20", LATE.replace("den:", "bom:"): "1x20"},
            {LATE: "1x20", LATE.replace("fra", "bom"): "1x20"},
            labels=REPLICA,
            is_per_node=False,
        ),
    ],
    "OnetripObservationsLost": [
        gauge("onetrip_app_observations_dropped_total", "0+30x30", "0x3 40x27", 30)
    ],
    "OnetripNodeDown": [gauge("up", "1x5 0x15", "1x19 0 1")],
    "OnetripNatsLost": [
        gauge("onetrip_cluster_nats_connected", "1x5 0x15", "1x10 0x4 1x6", prefix="onetrip")
    ],
    "OnetripPeerSilent": [
        Case({AGE: "1x5 35+60x15"}, {AGE: "1x20"}, labels={"region": "bom"}),
        # Never heard since the start, so there is no age.
        Case({SYNC_FAILURES: "0+60x20"}, {SYNC_FAILURES: "0x20"}, labels={"region": "bom"}),
        # Now and then a pull fails.
        Case(
            {SYNC_FAILURES: "0+60x20"},
            {SYNC_FAILURES: "0+1x20", AGE: "2x20"},
            labels={"region": "bom"},
        ),
    ],
    "OnetripVersionsDiffer": [
        Case(
            {series("onetrip_build_info", version=v): "1x80" for v in ("1.0.0", "1.1.0")},
            {
                series("onetrip_build_info", version="1.0.0"): "1x30 _x50",
                series("onetrip_build_info", version="1.1.0"): "_x20 1x60",
            },
            80,
            is_per_node=False,
        )
    ],
    "OnetripCertificateExpiring": [
        gauge(
            "onetrip_proxy_certificate_expiry_seconds",
            f"{13 * DAY}-60x80",
            f"{15 * DAY}-60x80",
            80,
            certificate="shop.pem",
        )
    ],
    "OnetripCertificateExpired": [
        gauge(
            "onetrip_proxy_certificate_expiry_seconds",
            "600-60x20",
            f"{2 * DAY}-60x20",
            certificate="shop.pem",
        )
    ],
    "OnetripAcmeFailing": [
        gauge("onetrip_acme_certificates", "2x80", "1x50 0x30", 80, state="failing")
    ],
    "OnetripWorkerRestarting": [gauge("onetrip_app_worker_ends_total", "0+1x20", "0x10 1x10")],
    "OnetripWorkerMissing": [gauge("onetrip_app_workers", "4x5 3x15", "4x5 3x2 4x13")],
    "OnetripStoreFails": [
        Case(
            {series("onetrip_app_task_failures_total", task="save"): "0x15 1x5"},
            {
                series("onetrip_app_task_failures_total", task="save"): "2x20",
                series("onetrip_app_task_failures_total", task="score"): "0+1x20",
            },
        )
    ],
    "OnetripTaskFails": [
        Case(
            {series("onetrip_app_task_failures_total", task="score"): "0x15 1x5"},
            {series("onetrip_app_task_failures_total", task="save"): "0+1x20"},
            labels={"task": "score"},
        )
    ],
    "OnetripReloadRefused": [
        gauge("onetrip_app_config_reloads_total", "0x35 1x5", "1x40", 40, outcome="refused")
    ],
    "OnetripUpgradeFailed": [
        gauge("onetrip_app_upgrades_total", "0x15 1x5", "0x20", outcome="failed")
    ],
    "OnetripAccessLogDrops": [
        # The figure starts anew with the process.
        gauge("onetrip_proxy_access_log_dropped", "0x15 200x5", "900x5 0x15")
    ],
    "OnetripDescriptorsShort": [
        Case(
            {series("process_open_fds"): "900x20", series("process_max_fds"): "1024x20"},
            {series("process_open_fds"): "400x20", series("process_max_fds"): "1024x20"},
        )
    ],
}


def rules(kind: str) -> dict[str, dict[str, Any]]:
    """Return the rules that are records or alerts, by name."""
    groups = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
    return {r[kind]: r for group in groups for r in group["rules"] if kind in r}


def expected(name: str, case: Case) -> dict[str, Any]:
    """Return the sample that stands for the firing alert."""
    node = {"instance": "den:9400"} if case.is_per_node else {}
    labels = {
        "alertname": name,
        "alertstate": "firing",
        "job": "onetrip",
        "severity": rules("alert")[name]["labels"]["severity"],
        **node,
        **case.labels,
    }
    text = ", ".join(f'{key}="{value}"' for key, value in labels.items())
    return {"labels": f"ALERTS{{{text}}}", "value": 1}


def scenario(name: str, case: Case, *, is_firing: bool) -> dict[str, Any]:
    """Return one test in promtool's form."""
    given = case.fires if is_firing else case.silent
    return {
        "name": f"{name} {'fires' if is_firing else 'is silent'}",
        "interval": "1m",
        "input_series": [{"series": key, "values": text} for key, text in given.items()],
        "promql_expr_test": [
            {
                "expr": f'ALERTS{{alertname="{name}", alertstate="firing"}}',
                "eval_time": f"{case.at}m",
                "exp_samples": [expected(name, case)] if is_firing else [],
            }
        ],
    }


@pytest.mark.needs_server("promtool")
def test_alerts_fire_when_they_should_and_only_then(tmp_path: Path) -> None:
    promtool = require_program("promtool")
    tests = [
        scenario(name, case, is_firing=is_firing)
        for name, cases in CASES.items()
        for case in cases
        for is_firing in (True, False)
    ]
    file = tmp_path / "alerts.yml"
    file.write_text(yaml.safe_dump({"rule_files": [str(RULES)], "tests": tests}))
    result = subprocess.run(
        [promtool, "test", "rules", str(file)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.needs_server("promtool")
def test_example_configuration_is_one() -> None:
    promtool = require_program("promtool")
    config = RULES.parent / "scrape.yml"
    result = subprocess.run(
        [promtool, "check", "config", str(config)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert f"{len(rules('alert')) + len(rules('record'))} rules found" in result.stdout


def test_each_alert_has_a_case() -> None:
    assert set(CASES) == set(rules("alert"))


@pytest.mark.parametrize("kind", ["record", "alert"])
def test_rules_ask_only_for_what_is_exported(kind: str) -> None:
    records = {name: set(re.findall(r"\w+", name.partition(":")[0])) for name in rules("record")}
    for name, rule in rules(kind).items():
        found = faults(rule["expr"], more={**records, "up": set()})
        assert found == [], name


def test_each_alert_is_explained_and_only_those() -> None:
    page = (ROOT / "docs" / "monitoring.md").read_text(encoding="utf-8")
    assert set(re.findall(r"(?m)^### (\w+)$", page)) == set(rules("alert"))
    for name, rule in rules("alert").items():
        assert rule["annotations"]["runbook"] == f"docs/monitoring.md#{name.lower()}"
