"""nginx's `proxy_pass` and `grpc_pass`: to which instances, and whether the path stays as it is."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from importlib.util import find_spec

from onetrip.cli.imports.draft import Draft, Upstream
from onetrip.cli.imports.nginx_files import Directive
from onetrip.cli.imports.nginx_scope import Scope
from onetrip.cli.imports.report import Outcome
from onetrip.errors import ConfigError
from onetrip.model.topology import parse_endpoint

_PASS = re.compile(r"(https?|grpcs?)://([^/\s]+)(/\S*)?")


def upstream_of(
    scope: Scope, upstreams: Mapping[str, Upstream], path: str, sign: str, draft: Draft
) -> Upstream | None:
    """Return where a location's requests go; None when it passes none on, or cannot.

    Args:
        scope: the location's block.
        path, sign: what it matches, and its modifier.
    """
    each = next(scope.mine("proxy_pass", "grpc_pass"), None)
    if each is None:
        return None
    each.is_told = True
    tell = draft.report.add
    found = _PASS.fullmatch(each.args[0]) if len(each.args) == 1 else None
    if "$" in str(each) or found is None or found[2].startswith("unix:"):
        why = "where it goes is known only at run time" if "$" in str(each) else "no http:// URL"
        tell(each.place, str(each), Outcome.LEFT_OUT, f"{why}; name instances")
        return None
    scheme, name, uri = found[1], found[2], found[3]
    if uri is not None and (sign or uri != path):
        detail = f"paths are passed on as they are, not with {uri} for {path}; the application may"
        tell(each.place, str(each), Outcome.LEFT_OUT, f"{detail} take both")
        return None
    try:
        upstream = _instances(each, scheme, name, upstreams)
    except ConfigError as error:
        tell(each.place, str(each), Outcome.LEFT_OUT, str(error))
        return None
    if not upstream.addresses:
        tell(each.place, str(each), Outcome.LEFT_OUT, f"upstream {name} has no instance left")
        return None
    tell(each.place, str(each), Outcome.CARRIED, "instances")
    _tell_differences(each, scope, scheme, draft)
    return upstream


def _instances(
    each: Directive, scheme: str, name: str, upstreams: Mapping[str, Upstream]
) -> Upstream:
    is_secure, is_grpc = scheme in ("https", "grpcs"), scheme.startswith("grpc")
    if is_grpc and find_spec("h2") is None:
        raise ConfigError("protocol: h2 needs onetrip[http2], which is not installed here")
    known = upstreams.get(name)
    found = known or Upstream([(_with_port(name, is_secure), each.place)])
    return replace(
        found,
        addresses=[
            (f"https://{address}" if is_secure else address, place)
            for address, place in found.addresses
        ],
        protocol="h2" if is_grpc else found.protocol,
    )


def _with_port(name: str, is_secure: bool) -> str:
    address = name if re.search(r":\d+$", name) else f"{name}:{443 if is_secure else 80}"
    parse_endpoint(address)
    return address


def _tell_differences(each: Directive, scope: Scope, scheme: str, draft: Draft) -> None:
    fields = scope.find_all("proxy_set_header", "grpc_set_header")
    if not any(field.args[:1] and field.args[0].lower() == "host" for field in fields):
        detail = "instances get the client's Host; nginx sent them the name in this directive"
        draft.report.add(each.place, str(each), Outcome.CHANGED, detail)
    if scheme in ("https", "grpcs"):
        detail = "onetrip verifies the instance's certificate by the system's authorities"
        draft.report.add(each.place, str(each), Outcome.CHANGED, detail)
