"""Rows of the dashboard about a node: clients and instances, edge, certificates, process."""

from __future__ import annotations

from grafana_panels import NODES, RATE, Json, panel, rate_by, target


def traffic() -> list[Json]:
    """Return the row "how do clients and instances behave?"."""
    bodies = rate_by("side", "onetrip_proxy_body_bytes_total")
    refused = rate_by("listener, reason", "onetrip_proxy_refused_connections_total")
    h2 = "onetrip_proxy_upstream_http2"
    attempts = [
        target(f"sum(rate(onetrip_proxy_retries_total{{{NODES}}}{RATE}))", "repeated"),
        target(f"sum(rate(onetrip_proxy_upgrades_total{{{NODES}}}{RATE}))", "upgraded"),
    ]
    ejected = [
        target(f"sum by (instance) (onetrip_proxy_ejected_instances{{{NODES}}})", "{{instance}}"),
        target(
            f"sum by (reason) (increase(onetrip_proxy_ejections_total{{{NODES}}}{RATE}))",
            "ejected: {{reason}}",
        ),
        target(
            f"sum by (reason) (increase(onetrip_proxy_ejections_kept_total{{{NODES}}}{RATE}))",
            "had to stay: {{reason}}",
        ),
    ]
    return [
        panel(
            "Requests by arm and region",
            "By the region that ran them, those of peers included.",
            [target(rate_by("region, arm", "onetrip_proxy_forwarded_total"), "{{region}} {{arm}}")],
            unit="reqps",
        ),
        panel(
            "Open connections",
            "",
            [target(f"sum by (side) (onetrip_proxy_connections{{{NODES}}})", "{{side}}")],
        ),
        panel("Body bytes", "By receiving side.", [target(bodies, "{{side}}")], unit="Bps"),
        panel(
            "Repeated attempts and upgrades",
            "Retries after connect failures; connections switched to another protocol.",
            attempts,
            unit="cps",
        ),
        panel("Ejected instances", "Now, and how it came about.", ejected),
        panel(
            "Refused connections",
            "Before their first request.",
            [target(refused, "{{listener}}: {{reason}}")],
            unit="cps",
        ),
        panel(
            "HTTP/2 errors of clients",
            "Connections ended because of what the client did.",
            [target(rate_by("code", "onetrip_proxy_http2_errors_total"), "{{code}}")],
            unit="cps",
        ),
        panel(
            "HTTP/2 to instances and peers",
            "Connections and requests; what ended badly, by error code.",
            [
                target(rate_by("instance", f"{h2}_connections_total"), "{{instance}} connections"),
                target(rate_by("instance", f"{h2}_streams_total"), "{{instance}} requests"),
                target(rate_by("code", f"{h2}_resets_total"), "reset {{code}}"),
                target(rate_by("code", f"{h2}_goaways_total"), "gone away {{code}}"),
                target(rate_by("code", f"{h2}_errors_total"), "error {{code}}"),
            ],
            unit="cps",
        ),
        panel(
            "Second attempts and limits",
            "Slow reads sent a second time, by outcome; attempts that a limit refused.",
            [
                target(rate_by("outcome", "onetrip_proxy_hedges_total"), "second {{outcome}}"),
                target(rate_by("limit", "onetrip_proxy_overflows_total"), "limit {{limit}}"),
            ],
            unit="cps",
        ),
        panel(
            "Round trips counted by database relays",
            "",
            [
                target(rate_by("backend", "onetrip_relay_trips_total"), "{{backend}}"),
                target(rate_by("backend", "onetrip_relay_setup_trips_total"), "{{backend}} set-up"),
                target(
                    rate_by("backend", "onetrip_relay_connections_total"),
                    "{{backend}} connections",
                ),
            ],
            unit="cps",
        ),
    ]


def edge() -> list[Json]:
    """Return the row "what does the edge answer itself?"."""
    evicted = f"sum(rate(onetrip_proxy_cache_evictions_total{{{NODES}}}{RATE}))"
    objects = f"sum by (project) (onetrip_proxy_cache_objects{{{NODES}}})"
    return [
        panel(
            "Cache",
            "Requests of projects that keep responses, by what the cache did.",
            [target(rate_by("outcome", "onetrip_proxy_cache_requests_total"), "{{outcome}}")],
            unit="reqps",
        ),
        panel(
            "Size of kept responses",
            "",
            [
                target(
                    f"sum by (project) (onetrip_proxy_cache_size_bytes{{{NODES}}})", "{{project}}"
                )
            ],
            unit="bytes",
        ),
        panel(
            "Kept responses and evictions",
            "",
            [target(objects, "{{project}}"), target(evicted, "evictions a second")],
        ),
        panel(
            "Files",
            "Requests answered with files, by outcome.",
            [target(rate_by("outcome", "onetrip_proxy_assets_total"), "{{outcome}}")],
            unit="reqps",
        ),
    ]


def certificates() -> list[Json]:
    """Return the row "do certificates last?"."""
    expiry = f"min by (certificate) (onetrip_proxy_certificate_expiry_seconds{{{NODES}}})"
    states = f"max by (state) (onetrip_acme_certificates{{{NODES}}})"
    orders = f"sum by (outcome) (increase(onetrip_acme_orders_total{{{NODES}}}{RATE}))"
    return [
        panel(
            "Time left",
            "By certificate file.",
            [target(expiry, "{{certificate}}")],
            unit="s",
            width=8,
            fieldConfig={"defaults": {"unit": "s"}, "overrides": []},
        ),
        panel("Ordered names by state", "", [target(states, "{{state}}")], width=8),
        panel("Orders", "By outcome.", [target(orders, "orders: {{outcome}}")], width=8),
    ]


def node() -> list[Json]:
    """Return the row "how are the nodes?"."""
    score = f"rate(onetrip_place_score_duration_seconds_bucket{{{NODES}}}{RATE})"
    cpu = f"sum by (instance) (rate(process_cpu_seconds_total{{{NODES}}}{RATE}))"
    memory = f"sum by (instance) (process_resident_memory_bytes{{{NODES}}})"
    files = f"sum by (instance) (process_open_fds{{{NODES}}} / process_max_fds{{{NODES}}})"
    lost = f"sum(rate(onetrip_app_observations_dropped_total{{{NODES}}}{RATE}))"
    lines = f"sum(deriv(onetrip_proxy_access_log_dropped{{{NODES}}}{RATE}))"
    changes = [
        target(
            f"sum by (outcome) (increase(onetrip_app_config_reloads_total{{{NODES}}}{RATE}))",
            "reload {{outcome}}",
        ),
        target(
            f"sum by (outcome) (increase(onetrip_app_upgrades_total{{{NODES}}}{RATE}))",
            "upgrade {{outcome}}",
        ),
        target(f"changes(onetrip_place_snapshot_version{{{NODES}}}{RATE})", "{{instance}} placed"),
    ]
    workers = [
        target(f"sum by (instance) (onetrip_app_workers{{{NODES}}})", "{{instance}}"),
        target(f"sum(increase(onetrip_app_worker_ends_total{{{NODES}}}{RATE}))", "ended"),
    ]
    return [
        panel(
            "Processor", "Of the main process.", [target(cpu, "{{instance}}")], unit="percentunit"
        ),
        panel("Memory", "Resident, main process.", [target(memory, "{{instance}}")], unit="bytes"),
        panel(
            "Open files", "Share of the limit.", [target(files, "{{instance}}")], unit="percentunit"
        ),
        panel("Workers", "Processes that serve, and those that ended untold.", workers),
        panel(
            "Scoring run, p99",
            "",
            [target(f"histogram_quantile(0.99, sum by (le, instance) ({score}))", "{{instance}}")],
            unit="s",
        ),
        panel(
            "Failed background rounds",
            "",
            [target(rate_by("task", "onetrip_app_task_failures_total"), "{{task}}")],
            unit="cps",
        ),
        panel(
            "Lost",
            "Access lines dropped, and exchanges that were not learned from, a second.",
            [target(lines, "access lines"), target(lost, "observations")],
            unit="cps",
        ),
        panel(
            "Spans",
            "Of sampled requests, by what became of them.",
            [target(rate_by("outcome", "onetrip_observe_spans_total"), "spans {{outcome}}")],
            unit="cps",
        ),
        panel("Changes", "Reloads, upgrades, new placements.", changes),
        panel(
            "Versions",
            "Nodes by version.",
            [target(f"count by (version) (onetrip_build_info{{{NODES}}})", "{{version}}")],
        ),
    ]
