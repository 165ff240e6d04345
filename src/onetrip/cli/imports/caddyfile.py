"""A small reader of Caddyfiles, for machines without `caddy`: site blocks and common directives.

It makes what `caddy adapt` makes of the same file, so that there is one set of rules; each handler
has its line under `AT`. What it does not know becomes a handler `unknown`, which the rules report.
Grammar: https://caddyserver.com/docs/caddyfile/concepts
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from onetrip.errors import ConfigError

AT = "@line"
"""Key of a handler's line number."""

MAX_DEPTH = 32
"""Blocks within blocks."""

_TOKEN = re.compile(r'[ \t]*(?:(#[^\n]*)|(\\\n)|(\n)|"((?:[^"\\]|\\.)*)"|`([^`]*)`|([^\s]+))')


@dataclass(slots=True)
class Line:
    """A directive: its words, and its block."""

    number: int
    words: list[str]
    block: list[Line] = field(default_factory=list)


def adapt_caddyfile(text: str, name: str) -> dict[str, Any]:
    """Return a Caddyfile as Caddy's JSON.

    Raises:
        ConfigError: it is not a Caddyfile, or needs `caddy` to be read.
    """
    lines = _parse(_tokens(text, name), name)
    blocks = [each for each in lines if each.block or len(lines) > 1]
    if lines and not lines[0].block:  # one site without braces
        blocks = [Line(lines[0].number, lines[0].words, lines[1:])]
    servers: dict[str, Any] = {}
    files: list[Any] = []
    options = [each for each in blocks if not each.words]
    for site in blocks:
        if site.words and site.words[0].startswith("("):
            raise ConfigError(f"{name}:{site.number}: snippets need caddy: put it on PATH")
        if site.words:
            _site(site, servers, files)
    unknown = [each for option in options for each in option.block]
    apps: dict[str, Any] = {"http": {"servers": servers}}
    if files:
        apps["tls"] = {"certificates": {"load_files": files}}
    return {"apps": apps, "options": [_unknown(each) for each in unknown]}


def _tokens(text: str, name: str) -> list[tuple[int, str | None]]:
    """Return (line, word) pairs; None ends a line. Braces are words only where nothing touches."""
    found: list[tuple[int, str | None]] = []
    position, number = 0, 1
    text = text.replace("\r\n", "\n").rstrip() + "\n"
    while match := _TOKEN.match(text, position):
        position = match.end()
        if match[3]:
            found.append((number, None))
        elif match[4] is not None:
            found.append((number, re.sub(r"\\(.)", r"\1", match[4])))
        elif match[5] is not None or match[6] is not None:
            word = match[5] if match[5] is not None else match[6]
            if word.startswith("<<") or word == "import":
                raise ConfigError(f"{name}:{number}: {word[:20]} needs caddy: put it on PATH")
            found.append((number, word))
        number += match[0].count("\n")
    return found


def _parse(tokens: list[tuple[int, str | None]], name: str) -> list[Line]:
    top: list[Line] = []
    stack, words, start = [top], list[str](), 0

    def end() -> None:
        if words:
            stack[-1].append(Line(start, list(words)))
            words.clear()

    for number, word in tokens:
        if word is None:
            # A line that ends in a comma goes on: addresses of a site.
            if not (words and words[-1].endswith(",")):
                end()
        elif word == "{":
            block = Line(start if words else number, list(words))
            words.clear()
            stack[-1].append(block)
            stack.append(block.block)
            if len(stack) > MAX_DEPTH:
                raise ConfigError(f"{name}:{number}: blocks are nested deeper than {MAX_DEPTH}")
        elif word == "}":
            end()
            if len(stack) == 1:
                raise ConfigError(f"{name}:{number}: }} without a {{")
            stack.pop()
        else:
            start = start if words else number
            words.append(word)
    end()
    if len(stack) > 1:
        raise ConfigError(f"{name}: a block is not closed")
    return top


def _site(site: Line, servers: dict[str, Any], files: list[Any]) -> None:
    by_port: dict[str, list[str]] = {}
    for address in " ".join(site.words).replace(",", " ").split():
        scheme, _, rest = address.rpartition("://")
        host, _, port = rest.partition(":") if not rest.startswith("[") else (rest, "", "")
        port = port or {"http": "80"}.get(scheme, "443")
        by_port.setdefault(f":{port}", []).append(host.partition("/")[0])
    inner = _routes(site.block, files)
    for port, hosts in by_port.items():
        names = [host for host in hosts if host]
        route: dict[str, Any] = {"handle": [{"handler": "subroute", "routes": inner}]}
        if names:
            route["match"] = [{"host": names}]
        server = next((s for s in servers.values() if s["listen"] == [port]), None)
        if server is None:
            server = servers.setdefault(f"srv{len(servers)}", {"listen": [port], "routes": []})
        server["routes"].append(route)


_ORDER = (
    *("tracing", "map", "vars", "root", "header", "copy_response_headers"),
    *("request_body", "redir", "method", "rewrite", "uri", "try_files"),
    *("basicauth", "basic_auth", "forward_auth", "request_header", "encode", "push"),
    *("templates", "handle", "handle_path", "route", "php_fastcgi", "reverse_proxy"),
    *("respond", "metrics", "file_server", "acme_server"),
)
"""Caddy's order of directives, which is not that of the file."""


def _routes(lines: Iterable[Line], files: list[Any]) -> list[dict[str, Any]]:
    lines = list(lines)
    named = {each.words[0]: _named(each) for each in lines if each.words[0].startswith("@")}
    rest = [each for each in lines if not each.words[0].startswith("@")]
    order = {name: number for number, name in enumerate(_ORDER)}
    rest.sort(key=lambda each: (order.get(each.words[0], len(order)), _breadth(each)))
    return [_route(each, named, files) for each in rest]


def _breadth(each: Line) -> tuple[bool, int]:
    """Order equal directives as Caddy does: longer paths first, those without a matcher last."""
    path = each.words[1] if len(each.words) > 1 and each.words[1].startswith("/") else ""
    return not path and not (len(each.words) > 1 and each.words[1].startswith("@")), -len(path)


def _named(each: Line) -> dict[str, Any]:
    parts = [each.words[1:]] if len(each.words) > 1 else [line.words for line in each.block]
    return {words[0]: words[1:] for words in parts if words}


def _route(each: Line, named: dict[str, dict[str, Any]], files: list[Any]) -> dict[str, Any]:
    name, *args = each.words
    match: dict[str, Any] | None = None
    if args and (args[0].startswith(("/", "@")) or args[0] == "*") and name not in ("tls", "log"):
        if args[0] in named:
            match = named[args[0]]
        elif args[0].startswith("/"):
            match = {"path": [args[0]]}
        args = args[1:]
    make = _HANDLERS.get(name)
    handlers = None
    if name in ("handle", "handle_path", "route"):
        routes = _routes(each.block, files)
        if name == "handle_path" and match and match.get("path"):
            strip = match["path"][0].removesuffix("*").rstrip("/")
            routes.insert(0, {"handle": [{"handler": "rewrite", "strip_path_prefix": strip}]})
        handlers = [{"handler": "subroute", "routes": routes}]
    elif name == "tls" and len(args) == 2:
        files.append({"certificate": args[0], "key": args[1], AT: each.number})
        handlers = []
    elif make is not None:
        handlers = make(args, each.block)
    if handlers is None:
        handlers = [_unknown(each)]
    route: dict[str, Any] = {"handle": [{AT: each.number, **handler} for handler in handlers]}
    if name == "try_files" and handlers and handlers[0]["handler"] == "rewrite":
        match = {"file": {"try_files": args}}
    return {**route, "match": [match]} if match is not None else route


def _unknown(each: Line) -> dict[str, Any]:
    words = [*each.words, *(["{…}"] if each.block else [])]
    return {"handler": "unknown", "text": " ".join(words), AT: each.number}


Handlers = list[dict[str, Any]] | None


def _reverse_proxy(args: list[str], block: list[Line]) -> Handlers:
    found: dict[str, Any] = {"handler": "reverse_proxy"}
    targets = list(args)
    for line in block:
        name, *words = line.words
        if name == "to":
            targets += words
        elif name == "lb_policy" and words:
            found["load_balancing"] = {"selection_policy": {"policy": words[0]}}
        elif name == "health_uri" and words:
            found["health_checks"] = {"active": {"uri": words[0]}}
        elif name == "header_up" and len(words) == 2:
            sets = found.setdefault("headers", {"request": {"set": {}}})["request"]["set"]
            sets[words[0]] = [words[1].replace("{host}", "{http.request.host}")]
        elif name == "flush_interval":
            found["flush_interval"] = words
        else:
            found[" ".join(line.words)] = True
    found["upstreams"] = [{"dial": _dial(each)} for each in targets]
    if any(each.startswith("https://") for each in targets):
        found["transport"] = {"protocol": "http", "tls": {}}
    if any(each.startswith("h2c://") for each in targets):
        found["transport"] = {"protocol": "http", "versions": ["h2c", "2"]}
    return [found]


def _dial(text: str) -> str:
    scheme, _, rest = text.rpartition("://")
    if re.search(r":\d+$", rest) or rest.startswith("unix/"):
        return rest
    return f"{rest}:{443 if scheme == 'https' else 80}"


def _file_server(args: list[str], block: list[Line]) -> Handlers:
    found: dict[str, Any] = {"handler": "file_server"}
    for words in ([arg] for arg in args):
        found[words[0]] = {}
    for line in block:
        name = {"index": "index_names"}.get(line.words[0], line.words[0])
        found[name] = line.words[1:]
    return [found]


def _redir(args: list[str], block: list[Line]) -> Handlers:
    codes = {"permanent": 301, "temporary": 302, "html": 200}
    code = codes.get(args[1], args[1]) if len(args) > 1 else 302
    return [{"handler": "static_response", "headers": {"Location": args[:1]}, "status_code": code}]


def _header(args: list[str], block: list[Line]) -> Handlers:
    fields = {args[0]: args[1:]} if args else {}
    fields |= {line.words[0]: line.words[1:] for line in block}
    return [{"handler": "headers", "response": {"set": fields}}]


_HANDLERS: dict[str, Callable[[list[str], list[Line]], Handlers]] = {
    "reverse_proxy": _reverse_proxy,
    "file_server": _file_server,
    "redir": _redir,
    "header": _header,
    "root": lambda args, _: [{"handler": "vars", "root": args[-1]}] if args else None,
    "encode": lambda args, _: [{"handler": "encode", "encodings": {a: {} for a in args}}],
    "try_files": lambda args, _: [{"handler": "rewrite", "uri": "{http.matchers.file.relative}"}],
    "respond": lambda args, _: [{"handler": "static_response", "body": " ".join(args)}],
    "log": lambda *_: [{"handler": "log"}],
}
