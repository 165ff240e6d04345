"""What Caddy's matchers and handlers mean here: paths, instances, and verdicts on the rest."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import Any

from onetrip.cli.imports.caddyfile import AT
from onetrip.cli.imports.draft import Draft, Upstream
from onetrip.cli.imports.report import Outcome, Place
from onetrip.errors import ConfigError
from onetrip.model.topology import parse_endpoint

_B, _L, _C = Outcome.BUILT_IN, Outcome.LEFT_OUT, Outcome.CHANGED

VERDICTS: dict[str, tuple[Outcome, str]] = {
    "encode": (_L, "nothing is compressed on the way: let the application do it, or put NAME.gz "
               "beside files (docs/static.md)"),
    "headers": (_L, "fields pass unchanged: let the application send them"),
    "static_response": (_L, "answers come from instances or files: let the application send them"),
    "rewrite": (_L, "paths are passed on as they are"),
    "authentication": (_L, "let the application ask who it is"),
    "request_body": (_L, "proxy.body_limit is one for all sites: set it"),
    "templates": (_L, "files are sent as they are"),
    "push": (_L, "browsers have given up server push"),
    "log": (_C, "the access log is JSON lines (log.access)"),
    "logs": (_C, "the access log is JSON lines (log.access)"),
    "logging": (_C, "events go to standard error as JSON (log.level)"),
    "admin": (_C, "admin.listen is 127.0.0.1:9400 unless set"),
    "storage": (_L, "set data_dir"),
    "automatic_https": (_L, "set tls.redirect_http and tls.acme as wanted"),
    "tls_connection_policies": (_B, "certificates are chosen by the name that clients ask for"),
    "idle_timeout": (_L, "set proxy.idle_timeout"),
    "read_timeout": (_L, "set proxy.body_timeout"),
    "read_header_timeout": (_L, "set proxy.header_timeout"),
    "write_timeout": (_L, "set proxy.write_timeout"),
    "trusted_proxies": (_L, "set proxy.trusted_proxies"),
    "protocols": (_C, "HTTP/1.1, and HTTP/2 with tls.http2; no HTTP/3"),
    "http_port": (_L, "set listen"),
    "https_port": (_L, "set tls.listen"),
    "grace_period": (_L, "set proxy.drain_timeout"),
}  # fmt: skip

_EVEN = ("random", "random_choose", "least_conn", "round_robin", "first")
_PASSED = {
    "Host": ("{http.request.host}", "{http.request.hostport}"),
    "X-Forwarded-For": ("{http.request.remote.host}",),
    "X-Forwarded-Proto": ("{http.request.scheme}",),
    "X-Forwarded-Host": ("{http.request.host}", "{http.request.hostport}"),
}


@dataclass(frozen=True, slots=True)
class State:
    """What is known of the requests that reach a handler.

    Attributes:
        hosts: their hosts; () for any.
        path: the pattern they match, "" for any.
        root: folder of files.
        strip: beginning of the path that is cut off.
        tried: files that are tried.
    """

    hosts: tuple[str, ...] = ()
    path: str = ""
    root: str = ""
    strip: str = ""
    tried: tuple[str, ...] = ()


def matched(matchers: Any, state: State) -> tuple[list[State], str]:
    """Return the states of requests that match, or why they cannot be told apart here."""
    if not matchers:
        return [state], ""
    found: list[State] = []
    for each in matchers:
        odd = set(each) - {"host", "path", "file"}
        if odd:
            return [], f"sites are chosen by host and path, not by {', '.join(sorted(odd))}"
        one = replace(state, hosts=tuple(each["host"])) if "host" in each else state
        if "file" in each:
            one = replace(one, tried=tuple(each["file"].get("try_files") or ()))
        for path in each.get("path", ("",)):
            if path in ("", "*", "/*"):
                found.append(one)
            elif not path.startswith("/") or "*" in path[:-1]:
                return [], "sites are chosen by path prefix, not by a pattern"
            elif state.path and not path.startswith(state.path.rstrip("*")):
                return [], f"{path} is not below {state.path}"
            else:
                found.append(replace(one, path=path))
    return found, ""


def upstream_of(each: dict[str, Any], place: Place, draft: Draft) -> tuple[Upstream, str | None]:
    """Return the instances of a `reverse_proxy`, and the path that probes request.

    Everything else it says is reported.
    """
    found = Upstream()
    transport = dict(each.get("transport") or {})
    is_secure = transport.pop("tls", None) is not None
    versions = transport.pop("versions", ())
    if "h2c" in versions or list(versions) == ["2"]:
        _wants_http2(found, place, draft)
    for one in each.get("upstreams") or ():
        _instance(one, is_secure, found, place, draft)
    if is_secure and found.addresses:
        detail = "onetrip verifies the instance's certificate by the system's authorities"
        draft.report.add(place, "reverse_proxy https", _C, detail)
    if (policy := _policy(each)) not in ("", *_EVEN):
        detail = "one client is not kept at one instance; the less loaded of two is chosen"
        draft.report.add(place, f"lb_policy {policy}", _L, detail)
    for name, values in _fields(each):
        _tell_field(name, values, place, draft)
    health, active = None, (each.get("health_checks") or {}).get("active") or {}
    if active:
        health = active.get("uri") or active.get("path")
        draft.report.add(place, f"health_uri {health}", Outcome.CARRIED, "health_path")
    _tell_rest(each, transport, active, place, draft)
    return found, health


def _wants_http2(found: Upstream, place: Place, draft: Draft) -> None:
    if find_spec("h2") is None:
        detail = "protocol: h2 needs onetrip[http2], which is not installed here"
        draft.report.add(place, "transport http versions", _L, detail)
    else:
        found.protocol = "h2"


def _instance(
    one: dict[str, Any], is_secure: bool, found: Upstream, place: Place, draft: Draft
) -> None:
    dial = str(one.get("dial", "")).removeprefix("tcp/")
    try:
        if dial.startswith("unix/"):
            raise ConfigError("not host:port; let it listen on TCP")
        parse_endpoint(dial)
    except ConfigError as error:
        draft.report.add(place, f"upstream {dial}", _L, str(error))
        return
    found.addresses.append((f"https://{dial}" if is_secure else dial, place))
    if isinstance(most := one.get("max_requests"), int) and most > 0:
        found.capacity = min(most, found.capacity or most)


def _policy(each: dict[str, Any]) -> str:
    balancing = each.get("load_balancing") or {}
    return str((balancing.get("selection_policy") or {}).get("policy", ""))


def _fields(each: dict[str, Any]) -> Iterable[tuple[str, list[str]]]:
    fields = each.get("headers") or {}
    for side in ("request", "response"):
        for action, names in (fields.get(side) or {}).items():
            pairs = names.items() if isinstance(names, dict) else ((str(n), []) for n in names)
            for name, values in pairs:
                prefix = "" if (side, action) == ("request", "set") else f"{side} {action} "
                yield prefix + name, values


def _tell_field(name: str, values: list[str], place: Place, draft: Draft) -> None:
    if len(values) == 1 and values[0] in _PASSED.get(name, ()):
        draft.report.add(place, f"header_up {name}", _B, "is sent")
    else:
        detail = "fields pass unchanged; onetrip sends X-Forwarded-For, -Proto, -Host, Forwarded"
        draft.report.add(place, f"header {name}", _L, detail)


def _tell_rest(
    each: dict[str, Any],
    transport: dict[str, Any],
    active: dict[str, Any],
    place: Place,
    draft: Draft,
) -> None:
    known = {"handler", "upstreams", "transport", "headers", "load_balancing", "health_checks", AT}
    for key in sorted(set(each) - known - {"flush_interval"}):
        draft.report.add(place, f"reverse_proxy {key}", _L, "onetrip has nothing like it")
    if "flush_interval" in each:
        draft.report.add(place, "flush_interval", _B, "bytes are passed on as they come")
    times = {"read_timeout": "proxy.read_timeout", "dial_timeout": "proxy.connect_timeout"}
    for key in sorted(set(transport) - {"protocol"}):
        detail = f"set {times[key]}" if key in times else "onetrip has nothing like it"
        draft.report.add(place, f"transport {key}", _L, detail)
    if transport.get("protocol", "http") != "http":
        draft.report.add(place, f"transport {transport['protocol']}", _L, "only HTTP")
    for key in sorted(set(active) - {"uri", "path"}):
        draft.report.add(place, f"health {key}", _C, "set probe.interval and probe.timeout")
    passive = (each.get("health_checks") or {}).get("passive")
    if passive:
        draft.report.add(place, "health passive", _B, "instances that fail rest (proxy.ejection)")
    for key in sorted(set(each.get("load_balancing") or {}) - {"selection_policy"}):
        draft.report.add(place, f"lb {key}", _C, "see proxy.extra_attempts and retry_ratio")
