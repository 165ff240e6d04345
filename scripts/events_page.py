"""Print docs/events.md: every event of the log, found in the code, with what it means.

An event is a call of a logger with a literal name; its fields are the call's keywords. Those that
people see in `onetrip events` too are marked: their names are given to `tell` or to the ring.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[1]

LEVELS = ("debug", "info", "warning", "error")
TELLERS = {"_tell", "tell", "add"}


@dataclass
class Event:
    """What the code says of one event."""

    levels: set[str] = field(default_factory=set)
    fields: set[str] = field(default_factory=set)
    is_told: bool = False


def names_in(node: ast.expr) -> Iterator[str]:
    """Return the literal event names that an argument may be."""
    match node:
        case ast.Constant(value=str(text)) if "." in text and " " not in text:
            yield text
        case ast.JoinedStr(values=parts):
            text = "".join(str(p.value) if isinstance(p, ast.Constant) else "*" for p in parts)
            if "." in text and " " not in text:
                yield text
        case ast.IfExp():
            yield from names_in(node.body)
            yield from names_in(node.orelse)
        case _:
            return


def calls() -> Iterator[tuple[ast.Call, str]]:
    """Return each call of a method in the code, with the method's name."""
    for path in sorted((ROOT / "src" / "onetrip").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args:
                yield node, node.func.attr


def events() -> dict[str, Event]:
    """Return the events of the code, by name."""
    found: dict[str, Event] = {}
    for call, method in calls():
        for name in names_in(call.args[0]):
            if method in LEVELS:
                event = found.setdefault(name, Event())
                event.levels.add(method)
                event.fields |= {word.arg or "…" for word in call.keywords} - {"cause"}
            elif method in TELLERS:
                found.setdefault(name, Event()).is_told = True
    return dict(sorted(found.items()))


HEAD = """# Events

One JSON object a line on standard error: `ts` (Unix time, s), `level`, `event`, `region` (and
`worker` in a worker process), then the fields below. `debug` is detail of requests, `info` a change
of state, `warning` a degradation, `error` something a person must look at; `log.level` says which
are written. Those with a star are also in `onetrip events` and the dashboard; without a level, only
there. `…` stands for fields that depend on the case. Times are in s; no event holds a header's
value, a query string or a secret. The access log is separate ([operations](operations.md#logs)).

This page is generated from the code by `make docs`; a test keeps the two equal.

| event | level | fields | meaning |
| --- | --- | --- | --- |"""

MEANINGS = {
    "acme.certificate_issued": "The authority issued a certificate; it is served from now on.",
    "acme.certificate_received": "The node that orders passed a certificate on.",
    "acme.certificate_refused": "A certificate that another node passed on cannot be used.",
    "acme.certificate_unusable": "A kept certificate cannot be used any more; it is ordered anew.",
    "acme.hosts_left_out": "Hosts that no challenge can prove get no certificate.",
    "acme.order_failed": "An order failed; when it is tried again.",
    "acme.peer_silent": "A node could not be asked for challenges or certificates.",
    "acme.renewal_unknown": "The authority did not say when to renew; the usual time counts.",
    "app.access_log_failed": "The access log cannot be written; lines are lost.",
    "app.access_log_recovered": "The access log can be written again; how many lines were lost.",
    "app.connections_limited": "Fewer clients are taken than configured, for want of descriptors.",
    "app.draining": "The region takes no requests while another can.",
    "app.draining_changed": "The same, or its end.",
    "app.memory_unreadable": "What an earlier run learned cannot be read; learning begins anew.",
    "app.policy_changed": "A project's placement was changed, here or on another node.",
    "app.reload_refused": "A configuration cannot be used; the old one goes on.",
    "app.reloaded": "A configuration is in use.",
    "app.remembered": "What an earlier run learned is in use again.",
    "app.socket_unused": "A socket was handed over that no setting names.",
    "app.started": "The node serves.",
    "app.stopped": "The node has ended.",
    "app.task_failed": "Background work raised; it is tried again.",
    "app.undrained": "The region takes requests again.",
    "app.unraisable": "An error that nobody could be told about; please report it.",
    "app.upgrade_failed": "A successor did not get ready; this node goes on.",
    "app.upgraded": "A successor serves; this node drains and ends.",
    "app.worker_ended": "A worker ended by itself; another one is started.",
    "app.worker_message_refused": "A worker could not use what the node told it.",
    "app.worker_started": "A worker serves.",
    "app.worker_troubled": "A worker could not use what the node told it.",
    "cluster.claim_rejected": "RTTs that a peer claims cannot be true, and are not used.",
    "cluster.claims_believed": "A peer's RTTs are plausible again.",
    "cluster.files_not_shared": "Files of deployments are not in NATS yet; it is tried again.",
    "cluster.nats_found": "The cluster is shared over NATS again.",
    "cluster.nats_lost": "No NATS server can be used; what is known is used on.",
    "cluster.peer_found": "A peer answers again.",
    "cluster.peer_lost": "A peer does not answer, or not as a peer does.",
    "cluster.peer_refused": "Somebody who claimed to be a peer was not taken for one.",
    "cluster.report_refused": "A report in the NATS bucket is not what its node would write.",
    "cluster.row_refused": "A row in the NATS bucket is not what a node would write.",
    "control.audit_failed": "A change was made, and the audit log could not be written.",
    "control.denied": "A call of the admin API had no right, or came from elsewhere.",
    "control.failed": "A call of the admin API failed by a defect; please report it.",
    "control.reply_not_kept": "A change was made; its Idempotency-Key would make it again.",
    "discover.changed": "A source names other instances: how many, which came and went.",
    "discover.crashed": "An answer of a source met a defect; it is asked again. Please report it.",
    "discover.failed": "A source gives no answer of use; its last answer stays. Once an outage.",
    "discover.not_applied": "What was found cannot be put in force; the old catalog stays.",
    "discover.recovered": "A source that had failed answers again.",
    "discover.slow": "Sources did not answer before the start or reload went on.",
    "estimate.*_changed": "A route's service time shifted for good: `code_` or `network_`.",
    "estimate.drifted": "The same, with its figures.",
    "place.moved": "A route runs in another region from now on.",
    "probe.crashed": "A probe failed by a defect; please report it.",
    "probe.denied": "A backend refuses probes: an allow list, or a limit.",
    "probe.failed": "A target did not answer once.",
    "probe.primary_moved": "Another endpoint of a backend is its primary from now on.",
    "probe.recovered": "A target that counted as down answers again.",
    "probe.replica_fresh": "A replica that lagged may be read from again.",
    "probe.replica_lagging": "A replica is left out: too far behind, stopped, or a primary itself.",
    "probe.replica_silent": "An endpoint does not tell its position: out of reach, or the account.",
    "probe.replicas_changed": "A replica was found by way of its primary, or is gone.",
    "probe.replicas_unknown": "A primary does not tell which replicas it has.",
    "probe.sample_refused": "An RTT that cannot be was left out.",
    "probe.target_lost": "A target counts as down.",
    "proxy.assets_unreadable": "A folder of files cannot be read.",
    "proxy.certificate_expiring": "A certificate expires soon.",
    "proxy.connection_refused": "A connection ended before its first request.",
    "proxy.connections_full": "A client was answered 503, because there were too many.",
    "proxy.exchange_failed": "A request failed by a defect; please report it.",
    "proxy.http2_failed": "An HTTP/2 connection failed by a defect; please report it.",
    "proxy.instance_ejected": "An instance takes no requests for a while.",
    "proxy.instance_returned": "An ejected instance takes requests again.",
    "proxy.task_failed": "Background work of the proxy raised; please report it.",
    "relay.draining": "The database relay takes no connections any more.",
    "relay.endpoint_lost": "A server of a routed database does not answer the relay.",
    "relay.endpoint_returned": "It answers again.",
    "relay.primary_found": "Another server of a routed database is the primary, or none is.",
    "relay.refused": "The database relay refused a connection.",
    "relay.report_failed": "The node did not take a report of the database relay.",
    "relay.report_recovered": "The node takes reports again.",
    "release.binding_changed": "A binding was declared or taken away.",
    "release.changed": "Something declared has changed: which kind, of which project.",
    "release.check_failed": "A deployment cannot serve in a region, and why.",
    "release.check_passed": "A deployment can serve in a region.",
    "release.deployment_created": "A deployment was made; the regions check it.",
    "release.deployment_deleted": "A deployment was deleted, or made room for newer ones.",
    "release.domain_added": "A host name leads to an environment.",
    "release.domain_removed": "A host name leads to its project no more.",
    "release.fetch_failed": "What another node has declared could not be fetched.",
    "release.not_promoted": "A deployment is ready and could not be put to work.",
    "release.project_created": "A project was made through the API.",
    "release.project_deleted": "A project was deleted.",
    "release.rolled_out": "A deployment gets a share of its environment's requests.",
    "release.row_unreadable": "Something declared by a newer version cannot be read.",
    "release.served": "Another deployment serves an environment.",
    "relay.started": "The database relay serves.",
    "relay.stopped": "The database relay has ended.",
    "relay.task_failed": "A connection of the database relay failed by a defect.",
    "webhooks.delivery_failed": "A webhook's receiver failed; it is tried again.",
    "webhooks.endpoint_disabled": "A receiver failed for days or is gone: it is told no more.",
    "webhooks.endpoint_enabled": "A test reached a receiver that was disabled.",
    "webhooks.task_failed": "Work for a webhook raised; please report it.",
    "xds.client_found": "An Envoy follows this node.",
    "xds.client_lost": "An Envoy follows this node no more; it goes on with what it has.",
    "xds.client_refused": "An Envoy whose certificate is not of this region was refused.",
    "xds.update_refused": "An Envoy did not take what it was told; it goes on with what it had.",
}
"""What a person is told about each; a test wants every event of the code here, and no other."""


def page() -> str:
    """Return the page's text."""
    rows = [HEAD]
    for name, event in events().items():
        levels = ", ".join(level for level in LEVELS if level in event.levels)
        fields = ", ".join(f"`{each}`" if each != "…" else each for each in sorted(event.fields))
        star = " *" if event.is_told else ""
        rows.append(f"| `{name}`{star} | {levels} | {fields} | {MEANINGS.get(name, '')} |")
    return "\n".join(rows) + "\n"


if __name__ == "__main__":
    print(page(), end="")
