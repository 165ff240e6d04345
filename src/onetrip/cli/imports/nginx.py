"""An nginx configuration as a draft of onetrip's: upstreams, servers, and a verdict on all else."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from onetrip.cli.imports.draft import Draft, Upstream
from onetrip.cli.imports.nginx_files import Directive, read_nginx
from onetrip.cli.imports.nginx_locations import Sites
from onetrip.cli.imports.nginx_rules import OPAQUE, verdict
from onetrip.cli.imports.nginx_scope import Scope
from onetrip.cli.imports.nginx_server import Servers
from onetrip.cli.imports.nginx_settings import set_body_limit, tell_settings, tell_workers
from onetrip.cli.imports.report import Outcome
from onetrip.errors import ConfigError
from onetrip.model.topology import parse_endpoint


def import_nginx(path: Path, hosts: Sequence[str]) -> Draft:
    """Return what can be carried over from the configuration that starts in `path`.

    Args:
        hosts: names of servers that have none of their own.

    Raises:
        ConfigError: it cannot be read, or is no nginx configuration.
    """
    main = read_nginx(path)
    draft = Draft()
    http = _http(main)
    scope = Scope(http)
    upstreams = {
        each.args[0]: _upstream(each, draft)
        for each in http
        if each.name == "upstream" and each.args and each.block is not None
    }
    servers = Servers(draft, path.absolute().parent, tuple(hosts))
    sites = Sites(draft, path.absolute().parent, upstreams)
    for each in http:
        if each.name == "server" and each.block is not None:
            each.is_told = True
            inner = Scope(each.block, scope)
            sites.add(each, inner, servers.names_of(each, inner))
    servers.finish()
    set_body_limit(sites.body_limits, draft)
    for each in main:
        if each.name == "worker_processes":
            tell_workers(each, draft)
    tell_settings(_everything(main), draft)
    _tell_rest(main, draft)
    return draft


def _http(main: list[Directive]) -> list[Directive]:
    """Return what stands in `http`; a file such as conf.d/site.conf is the inside of one."""
    blocks = [each for each in main if each.name == "http" and each.block is not None]
    if not blocks:
        return main
    for each in blocks:
        each.is_told = True
    return [inner for each in blocks for inner in each.block or ()]


def _everything(directives: list[Directive]) -> Iterator[Directive]:
    for each in directives:
        yield each
        if each.block is not None and each.name not in OPAQUE:
            yield from _everything(each.block)


def _tell_rest(directives: list[Directive], draft: Draft) -> None:
    for each in directives:
        if not each.is_told:
            each.is_told = True
            outcome, detail = verdict(each)
            draft.report.add(each.place, str(each), outcome, detail)
        if each.block is not None and each.name not in OPAQUE:
            _tell_rest(each.block, draft)


def _upstream(block: Directive, draft: Draft) -> Upstream:
    found = Upstream()
    block.is_told = True
    servers = [each for each in block.block or () if each.name == "server" and each.args]
    options = {id(each): _options(each.args[1:]) for each in servers}
    weights = {options[id(each)].get("weight", "1") for each in servers}
    for each in servers:
        each.is_told = True
        _server(each, options[id(each)], len(weights) > 1, found, draft)
    for each in block.block or ():
        if each.name == "keepalive_timeout":
            each.is_told = True
            draft.report.add(
                *(each.place, str(each), Outcome.CHANGED),
                "proxy.pool_idle_timeout is one for all sites",
            )
    outcome = Outcome.CARRIED if found.addresses else Outcome.LEFT_OUT
    detail = "instances" if found.addresses else "no instance is left"
    draft.report.add(block.place, str(block), outcome, detail)
    return found


def _server(
    each: Directive, options: Mapping[str, str], weighted: bool, found: Upstream, draft: Draft
) -> None:
    tell = draft.report.add
    address = instance_address(each.args[0])
    if address is None:
        detail = (
            "not host:port; let it listen on TCP" if "unix:" in each.args[0] else "no host:port"
        )
        tell(each.place, str(each), Outcome.LEFT_OUT, detail)
        return
    if "down" in options:
        tell(each.place, str(each), Outcome.BUILT_IN, "marked down: no instance")
        return
    if "backup" in options:
        detail = "no instance is a backup: failover goes to the next-best region"
        tell(each.place, str(each), Outcome.LEFT_OUT, detail)
        return
    found.addresses.append((address, each.place))
    if options.get("max_conns", "0").isdigit() and options.get("max_conns", "0") != "0":
        found.capacity = min(int(options["max_conns"]), found.capacity or 1_000_000)
    outcome, detail = Outcome.CARRIED, "instances"
    if weighted:
        outcome = Outcome.LEFT_OUT
        detail = "instances without its weight: the less loaded of two is chosen"
    elif {"max_fails", "fail_timeout", "slow_start"} & set(options):
        outcome = Outcome.CHANGED
        detail = "instances; proxy.ejection and proxy.slow_start are one for all sites"
    tell(each.place, str(each), outcome, detail)


def _options(args: Sequence[str]) -> dict[str, str]:
    parts = (arg.partition("=") for arg in args)
    return {name: value for name, _, value in parts}


def instance_address(text: str) -> str | None:
    """Return an nginx server address as an instance, port 80 where there is none; else None."""
    if text.startswith("unix:"):
        return None
    address = text if re.search(r":\d+$", text) else f"{text}:80"
    try:
        return str(replace(parse_endpoint(address), tls_name=None))
    except ConfigError:
        return None
