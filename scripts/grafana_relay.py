"""Print grafana/onetrip-relay.json: a dashboard over the metrics of database relays.

They are processes of their own, scraped at addresses of their own, so they have a page of their
own: who connects, where transactions run, whether replicas are fresh, and what fails.
"""

from __future__ import annotations

import json

from grafana_panels import NODES, RATE, Json, page, panel, rate_by, rest, stat, target

from onetrip.observe.metrics import declared
from onetrip.observe.relay_metrics import RelayMetrics


def clients() -> list[Json]:
    """Return the row "who connects?"."""
    refused = rate_by("backend, reason", "onetrip_relay_sessions_refused_total")
    moved = rate_by("backend, direction", "onetrip_relay_bytes_total")
    open_sessions = f"onetrip_relay_sessions_open{{{NODES}}}"
    return [
        stat("Open sessions", "Of clients, at all relays.", f"sum({open_sessions})"),
        stat(
            "New sessions a second",
            "",
            f"sum(rate(onetrip_relay_sessions_total{{{NODES}}}{RATE}))",
            "cps",
        ),
        panel(
            "Sessions by relay",
            "",
            [target(f"sum by (backend, instance) ({open_sessions})", "{{backend}} {{instance}}")],
        ),
        panel(
            "Refused sessions",
            "By reason.",
            [target(refused, "{{backend}}: {{reason}}")],
            unit="cps",
        ),
        panel(
            "Bytes",
            "To and from the servers.",
            [target(moved, "{{backend}} {{direction}}")],
            unit="Bps",
        ),
    ]


def routes() -> list[Json]:
    """Return the row "where do transactions run?"."""
    begun = rate_by("endpoint, kind", "onetrip_relay_transactions_total")
    fresh = rate_by("outcome", "onetrip_relay_freshness_total")
    waited = f"sum(rate(onetrip_relay_freshness_wait_seconds_total{{{NODES}}}{RATE}))"
    reads = f"sum(rate(onetrip_relay_freshness_total{{{NODES}}}{RATE}))"
    pool = f"sum by (endpoint, state) (onetrip_relay_pool_connections{{{NODES}}})"
    lag = f"max by (backend, endpoint) (onetrip_relay_endpoint_lag_bytes{{{NODES}}})"
    return [
        panel(
            "Transactions",
            "By the server that ran them; reads are those that a replica may run.",
            [target(begun, "{{endpoint}} {{kind}}")],
            unit="cps",
        ),
        panel(
            "Freshness",
            "How reads found a replica that has what was written before.",
            [target(fresh, "{{outcome}}")],
            unit="cps",
        ),
        panel("Wait for freshness", "Mean of a read.", [target(f"{waited} / {reads}")], unit="s"),
        panel("Lag", "Up to the floor.", [target(lag, "{{backend}} {{endpoint}}")], unit="bytes"),
        panel("Pooled connections", "", [target(pool, "{{endpoint}} {{state}}")]),
        panel(
            "Errors",
            "That no server reported, by kind.",
            [
                target(
                    rate_by("backend, kind", "onetrip_relay_errors_total"), "{{backend}}: {{kind}}"
                )
            ],
            unit="cps",
        ),
    ]


def dashboard() -> Json:
    """Return the dashboard; a metric that no question asks for has a panel in its last row."""
    rows = [("Who connects?", clients()), ("Where do transactions run?", routes())]
    rows.append(("What else is counted?", rest(declared(RelayMetrics()), rows)))
    about = "Database relays: sessions, transactions, freshness, failures."
    return page(
        "onetrip-relay", "onetrip relays", about, rows, node="Relay", info="onetrip_relay_info"
    )


if __name__ == "__main__":
    print(json.dumps(dashboard(), indent=1))
