"""Caddy's JSON as a draft of onetrip's configuration: servers, routes, handlers.

Routes are walked with what is known so far (hosts, path, folder); a handler that answers ends a
path. Places are lines where the file's own reader knew them, else paths within the JSON.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from onetrip.app.schema import CertificateEntry, TlsEntry
from onetrip.app.security import build_certificates
from onetrip.cli.imports.caddy_files import read_caddy
from onetrip.cli.imports.caddy_handlers import (
    VERDICTS,
    State,
    matched,
    upstream_of,
)
from onetrip.cli.imports.caddy_sites import Ended, add_sites
from onetrip.cli.imports.caddyfile import AT
from onetrip.cli.imports.draft import Draft
from onetrip.cli.imports.report import Outcome, Place
from onetrip.errors import ConfigError

MAX_DEPTH = 64
"""Subroutes within subroutes."""


def import_caddy(path: Path, hosts: Sequence[str], program: str | None = None) -> Draft:
    """Return what can be carried over from a Caddyfile, or from Caddy's JSON.

    Args:
        hosts: names of sites that have none of their own.
        program: the `caddy` to ask; None looks for it, "" does without.

    Raises:
        ConfigError: it cannot be read, or is no configuration of Caddy's.
    """
    data = read_caddy(path, program)
    draft = Draft()
    try:
        _Walk(draft, path, tuple(hosts)).read(data)
    except (TypeError, AttributeError, KeyError, IndexError) as error:
        raise ConfigError(f"{path}: is no Caddy configuration: {error}") from error
    return draft


@dataclass(slots=True)
class _Walk:
    draft: Draft
    file: Path
    names: tuple[str, ...]
    ended: list[Ended] = field(default_factory=list)

    def read(self, data: dict[str, Any]) -> None:
        apps = data.get("apps") or {}
        for each in data.get("options", ()):
            self._tell(
                Place(str(self.file), each[AT]), each["text"], Outcome.LEFT_OUT, "a global option"
            )
        for name in sorted(set(data) - {"apps", "options"}):
            self._tell(self._at(name), name, *VERDICTS.get(name, (Outcome.LEFT_OUT, "not known")))
        for name in sorted(set(apps) - {"http", "tls"}):
            self._tell(self._at(f"apps.{name}"), name, Outcome.LEFT_OUT, "only sites are served")
        http = apps.get("http") or {}
        for key in sorted(set(http) - {"servers"}):
            outcome, detail = VERDICTS.get(key, (Outcome.LEFT_OUT, "not known"))
            self._tell(self._at(f"apps.http.{key}"), key, outcome, detail)
        listens: dict[str, Place] = {}
        for name, server in (http.get("servers") or {}).items():
            at = f"apps.http.servers.{name}"
            for address in server.get("listen") or (":443",):
                listens.setdefault(address, self._at(f"{at}.listen"))
            self._server_keys(server, at)
            self._routes(server.get("routes") or [], State(), f"{at}.routes", 0)
        add_sites(self.draft, self.ended, self.names)
        self._listeners(listens, apps.get("tls") or {})

    def _server_keys(self, server: dict[str, Any], at: str) -> None:
        for key in sorted(set(server) - {"listen", "routes"}):
            outcome, detail = VERDICTS.get(key, (Outcome.LEFT_OUT, "not known"))
            self._tell(self._at(f"{at}.{key}"), key, outcome, detail)

    def _listeners(self, listens: dict[str, Place], tls: dict[str, Any]) -> None:
        clear = [each for each in listens if each.endswith(":80")]
        secure = [each for each in listens if each.endswith(":443")]
        for each in listens:
            if each not in (*clear, *secure) and not clear:
                clear.append(each)
        certificates = self._certificates(tls)
        for key, chosen in (("listen", clear[:1]), ("tls.listen", secure[:1])):
            for address in chosen:
                self._listen(key, address, listens[address], certificates)
        for address in listens:
            if address not in (*clear[:1], *secure[:1]):
                detail = "onetrip listens at one address in clear and at one over TLS"
                self._tell(listens[address], f"listen {address}", Outcome.LEFT_OUT, detail)

    def _listen(self, key: str, address: str, place: Place, certificates: list[Any]) -> None:
        full = f"0.0.0.0{address}" if address.startswith(":") else address
        if key == "listen":
            self.draft.top["listen"] = full
        elif certificates:
            # Caddy redirects to https by itself wherever it serves it.
            redirect: dict[str, Any] = {} if "listen" in self.draft.top else {"redirect_http": True}
            self.draft.section("tls").update(listen=full, certificates=certificates, **redirect)
        else:
            detail = (
                "certificates are ordered only when you agree to the authority's terms: set "
                "tls.listen and tls.acme (docs/tls.md)"
            )
            self._tell(place, f"listen {address}", Outcome.LEFT_OUT, detail)
            return
        self._tell(place, f"listen {address}", Outcome.CARRIED, key)

    def _certificates(self, tls: dict[str, Any]) -> list[dict[str, str]]:
        found = []
        for each in (tls.get("certificates") or {}).get("load_files", ()):
            place = self._at("apps.tls.certificates", each)
            folder = self.file.absolute().parent
            paths = [str(folder / each[name]) for name in ("certificate", "key")]
            try:
                entry = CertificateEntry(cert=paths[0], key=paths[1])
                build_certificates(TlsEntry(listen="x", certificates=[entry]), folder)
            except ConfigError as error:
                detail = f"it cannot be served: {str(error).partition(': ')[2]}"
                self._tell(place, f"tls {each['certificate']}", Outcome.LEFT_OUT, detail)
                continue
            found.append({"cert": paths[0], "key": paths[1]})
            self._tell(place, f"tls {each['certificate']}", Outcome.CARRIED, "tls.certificates")
        if tls.get("automation"):
            detail = "set tls.acme, if you agree to the authority's terms (docs/tls.md)"
            self._tell(self._at("apps.tls.automation"), "automation", Outcome.LEFT_OUT, detail)
        return found

    def _routes(self, routes: list[Any], state: State, at: str, depth: int) -> None:
        if depth > MAX_DEPTH:
            raise ConfigError(f"{self.file}: {at}: subroutes are nested too deeply")
        for number, route in enumerate(routes):
            here = f"{at}[{number}]"
            handlers = route.get("handle") or []
            states, reason = matched(route.get("match"), state)
            if reason:
                for each in handlers:
                    self._leave(each, f"{here}.handle", reason)
                continue
            for one in states:
                self._handle(handlers, one, here, depth)
            # What is set without a matcher holds for the routes that follow.
            if not route.get("match"):
                for each in handlers:
                    if each.get("handler") == "vars" and "root" in each:
                        state = replace(state, root=each["root"])
                    if each.get("handler") == "rewrite":
                        state = replace(state, strip=each.get("strip_path_prefix", ""))
            elif (tried := route["match"][0].get("file")) and not state.tried:
                state = replace(state, tried=tuple(tried.get("try_files") or ()))

    def _handle(self, handlers: list[Any], state: State, at: str, depth: int) -> None:
        for number, each in enumerate(handlers):
            here = f"{at}.handle[{number}]"
            place = self._at(here, each)
            match each.get("handler"):
                case "subroute":
                    self._routes(each.get("routes") or [], state, f"{here}.routes", depth + 1)
                case "vars":
                    state = replace(state, root=each.get("root", state.root))
                    for key in sorted(set(each) - {"handler", "root", AT}):
                        self._tell(place, f"vars {key}", Outcome.LEFT_OUT, "there are no variables")
                case "rewrite" if state.tried or set(each) <= {"handler", "strip_path_prefix", AT}:
                    state = replace(state, strip=each.get("strip_path_prefix", ""))
                case "reverse_proxy":
                    self._proxy(each, state, place)
                case "file_server":
                    self._files(each, state, place)
                case name:
                    text = each.get("text") or str(name)
                    default = (Outcome.LEFT_OUT, "onetrip has nothing like it")
                    self._tell(place, _words(each, text), *VERDICTS.get(str(name), default))

    def _proxy(self, each: dict[str, Any], state: State, place: Place) -> None:
        if state.strip:
            detail = f"paths are passed on as they are, not without {state.strip}"
            self._tell(place, "reverse_proxy", Outcome.LEFT_OUT, detail)
            return
        if state.tried:
            detail = "files are tried before an application only by file_server"
            self._tell(place, f"try_files {' '.join(state.tried)}", Outcome.LEFT_OUT, detail)
        upstream, health = upstream_of(each, place, self.draft)
        if upstream.addresses:
            self.ended.append(Ended(state, place, upstream, health))

    def _files(self, each: dict[str, Any], state: State, place: Place) -> None:
        self.ended.append(Ended(state, place, options=each))

    def _leave(self, each: dict[str, Any], at: str, reason: str) -> None:
        for found in _answers(each):
            text = found.get("text") or found.get("handler", "?")
            self._tell(self._at(at, found), _words(found, text), Outcome.LEFT_OUT, reason)

    def _at(self, path: str, each: dict[str, Any] | None = None) -> Place:
        line = (each or {}).get(AT)
        return Place(str(self.file), line) if line else Place(f"{self.file}: {path}")

    def _tell(self, place: Place, text: str, outcome: Outcome, detail: str) -> None:
        self.draft.report.add(place, text, outcome, detail)


def _answers(each: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if each.get("handler") != "subroute":
        yield each
    for route in each.get("routes") or ():
        for inner in route.get("handle") or ():
            yield from _answers(inner)


def _words(each: dict[str, Any], name: str) -> str:
    rest = {key: value for key, value in each.items() if key not in ("handler", AT, "text")}
    return f"{name} {json.dumps(rest, ensure_ascii=False)}" if rest else name
