"""Print grafana/onetrip.json: a dashboard over the metrics of docs/metrics.md.

The rows follow a user's questions: does it help, what runs where, how far is everything, and what
fails. Requests are counted by the duration histogram, which only the edge fills, so a request that
passed two nodes counts once. Import the file in Grafana and choose the Prometheus data source.
"""

from __future__ import annotations

import json

from grafana_node import certificates, edge, node, traffic
from grafana_panels import NODES, RATE, Json, matrix, page, panel, rest, stat, target

from onetrip.observe.metrics import Metrics, declared


def gain() -> list[Json]:
    """Return the row "does it help?"."""
    placed = f'onetrip_place_routes{{{NODES}, status="placed"}}'
    duration = "onetrip_proxy_request_duration_seconds"
    arms = f'{duration}_bucket{{{NODES}, arm=~"placed|control|default"}}'
    return [
        stat(
            "Measured saving",
            "Mean over nodes and environments of the saving a placed request has against control.",
            f"avg(onetrip_place_saving_seconds{{{NODES}}})",
            "s",
        ),
        stat("Placed routes", "Routes that run in another region.", f"sum({placed})"),
        stat(
            "Requests a second",
            "At their edge, so each counts once.",
            f"sum(rate({duration}_count{{{NODES}}}{RATE}))",
            "reqps",
        ),
        stat(
            "Failed exchanges",
            "Share of exchanges that failed, whoever was at fault.",
            f"(sum(rate(onetrip_proxy_errors_total{{{NODES}}}{RATE})) or vector(0))"
            f" / sum(rate(onetrip_proxy_requests_total{{{NODES}}}{RATE}))",
            "percentunit",
        ),
        panel(
            "Median latency by arm",
            "Placed routes leave some requests at the default, as control: compare those two.",
            [target(f"histogram_quantile(0.5, sum by (le, arm) (rate({arms}{RATE})))", "{{arm}}")],
            unit="s",
        ),
        panel(
            "p99 latency by arm",
            "",
            [target(f"histogram_quantile(0.99, sum by (le, arm) (rate({arms}{RATE})))", "{{arm}}")],
            unit="s",
        ),
        panel(
            "Measured saving by environment",
            "A request, against the control group; per node that measured it.",
            [target(f"onetrip_place_saving_seconds{{{NODES}}}", "{{route}} at {{instance}}")],
            unit="s",
            fieldConfig={"defaults": {"unit": "s"}, "overrides": []},
        ),
        panel(
            "Requests by arm",
            "",
            [target(f"sum by (arm) (rate({duration}_count{{{NODES}}}{RATE}))", "{{arm}}")],
            unit="reqps",
        ),
    ]


def placement() -> list[Json]:
    """Return the row "what runs where?"."""
    duration = "onetrip_proxy_request_duration_seconds"
    median = f"rate({duration}_bucket{{{NODES}}}{RATE})"
    return [
        panel(
            "Requests by region that ran them",
            "",
            [
                target(
                    f"sum by (region, arm) (rate({duration}_count{{{NODES}}}{RATE}))",
                    "{{region}} {{arm}}",
                )
            ],
            unit="reqps",
        ),
        panel(
            "Median latency by region",
            "",
            [target(f"histogram_quantile(0.5, sum by (le, region) ({median}))", "{{region}}")],
            unit="s",
        ),
        panel(
            "Routes by status",
            "One for each route and edge.",
            [target(f"sum by (status) (onetrip_place_routes{{{NODES}}})", "{{status}}")],
        ),
        panel(
            "Moves and drift",
            "Routes that changed region, and lasting shifts of their service time by cause.",
            [
                target(
                    f"sum by (reason) (increase(onetrip_place_moves_total{{{NODES}}}{RATE}))",
                    "move: {{reason}}",
                ),
                target(
                    f"sum by (cause) (increase(onetrip_estimate_drifts_total{{{NODES}}}{RATE}))",
                    "drift: {{cause}}",
                ),
            ],
        ),
    ]


def distance() -> list[Json]:
    """Return the row "how far is everything?"."""
    kinds = "sum by (kind, failure) "
    return [
        matrix(
            "RTT between regions",
            "From row to column, newest estimate.",
            f"max by (source_region, target_region) (onetrip_estimate_rtt_seconds{{{NODES}}})",
            "source_region",
            "target_region",
        ),
        matrix(
            "RTT to backends",
            "From region to backend, newest estimate.",
            f"max by (source_region, backend) (onetrip_estimate_backend_rtt_seconds{{{NODES}}})",
            "source_region",
            "backend",
        ),
        panel(
            "Probe failures",
            "Probes that gave no RTT.",
            [
                target(
                    f"{kinds}(rate(onetrip_probe_failures_total{{{NODES}}}{RATE}))",
                    "{{kind}}: {{failure}}",
                ),
            ],
            unit="cps",
        ),
        panel(
            "Probes",
            "",
            [
                target(
                    f"sum by (kind) (rate(onetrip_probe_probes_total{{{NODES}}}{RATE}))", "{{kind}}"
                )
            ],
            unit="cps",
        ),
    ]


def health() -> list[Json]:
    """Return the row "what fails?"."""
    return [
        panel(
            "Errors by kind",
            "By the side at fault.",
            [
                target(
                    f"sum by (side, kind) (rate(onetrip_proxy_errors_total{{{NODES}}}{RATE}))",
                    "{{side}}: {{kind}}",
                )
            ],
            unit="cps",
        ),
        panel(
            "Responses by status class",
            "",
            [
                target(
                    f"sum by (status_class) (rate(onetrip_proxy_requests_total{{{NODES}}}{RATE}))",
                    "{{status_class}}",
                )
            ],
            unit="reqps",
        ),
        panel(
            "Peers' age",
            "Time since each peer was last heard, by the node that waits longest.",
            [
                target(
                    f"max by (region) (onetrip_cluster_peer_age_seconds{{{NODES}}})", "{{region}}"
                ),
            ],
            unit="s",
        ),
        panel(
            "Sync failures",
            "",
            [
                target(
                    f"sum by (region) (rate(onetrip_cluster_sync_failures_total{{{NODES}}}{RATE}))",
                    "{{region}}",
                )
            ],
            unit="cps",
        ),
    ]


def rows() -> list[tuple[str, list[Json]]]:
    """Return the rows that answer a question, by title."""
    return [
        ("Does it help?", gain()),
        ("What runs where?", placement()),
        ("How far is everything?", distance()),
        ("What fails?", health()),
        ("How do clients and instances behave?", traffic()),
        ("What does the edge answer itself?", edge()),
        ("Do certificates last?", certificates()),
        ("How are the nodes?", node()),
    ]


def others() -> list[Json]:
    """Return a panel for each metric that no question asks for; a new one shows at once."""
    return rest(declared(Metrics()), rows())


def dashboard() -> Json:
    """Return the dashboard."""
    more = [("What else is counted?", panels)] if (panels := others()) else []
    about = "Smart placement: latency by arm, placements, RTTs, failures."
    return page(
        "onetrip", "onetrip", about, [*rows(), *more], node="Node", info="onetrip_build_info"
    )


if __name__ == "__main__":
    print(json.dumps(dashboard(), indent=1))
