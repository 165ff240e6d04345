"""nginx's servers: where they listen, what they are called, certificates, redirects to https."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from onetrip.app.schema import CertificateEntry, TlsEntry
from onetrip.app.security import build_certificates
from onetrip.cli.imports.draft import Draft
from onetrip.cli.imports.nginx_files import Directive
from onetrip.cli.imports.nginx_scope import Scope
from onetrip.cli.imports.report import Outcome
from onetrip.errors import ConfigError

_HOST = re.compile(
    r"(?:\*\.)?[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?(?:\.[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?)*"
)
_TO_HTTPS = re.compile(r"https://(?:\$host|\$server_name|\$http_host|[a-z0-9.-]+)\$request_uri")
_CODES = ("301", "302", "307", "308")
_HARMLESS = frozenset(
    [
        "default_server",
        "default",
        "reuseport",
        "deferred",
        "backlog",
        "ipv6only",
        "fastopen",
        "rcvbuf",
        "sndbuf",
        "so_keepalive",
        "bind",
        "setfib",
        "accept_filter",
        "http2",
        "spdy",
    ]
)


@dataclass(slots=True)
class _Heard:
    """What one server listens to."""

    clear: bool = False
    secure: bool = False
    redirect: Directive | None = None


@dataclass(slots=True)
class Servers:
    """Gathers what servers say about listeners and TLS, which onetrip has once for all.

    Args:
        folder: what relative paths are relative to.
        names: hosts of servers without a name.
    """

    draft: Draft
    folder: Path
    names: tuple[str, ...]
    _clear: dict[str, Directive] = field(default_factory=dict)
    _secure: dict[str, Directive] = field(default_factory=dict)
    _heard: list[_Heard] = field(default_factory=list)
    _certificates: dict[tuple[str, str], list[str]] = field(default_factory=dict)

    def names_of(self, server: Directive, scope: Scope) -> tuple[str, ...]:
        """Read one server; return the hosts whose requests it answers, none for a redirect."""
        heard = self._listeners(scope)
        hosts = self._hosts(server, scope)
        self._heard.append(heard)
        if heard.secure:
            self._tls(scope, hosts)
        heard.redirect = self._redirect(scope) if heard.clear and not heard.secure else None
        return () if heard.redirect is not None else hosts

    def finish(self) -> None:
        """Decide what is one for all servers."""
        top, tell = self.draft.top, self.draft.report.add
        clear = self._pick(self._clear, "listen")
        if clear is not None:
            top["listen"] = clear
        tls = self.draft.section("tls")
        if self._certificates and self._secure:
            tls["listen"] = self._pick(self._secure, "tls.listen")
            tls["certificates"] = [
                {"cert": cert, "key": key, **({"hosts": hosts} if hosts else {})}
                for (cert, key), hosts in self._certificates.items()
            ]
        else:
            tls.clear()
            for each in self._secure.values():
                detail = "no certificate is left to serve: set tls.certificates or tls.acme"
                tell(each.place, str(each), Outcome.LEFT_OUT, detail)
        self._finish_redirects("listen" in tls)

    def _finish_redirects(self, has_tls: bool) -> None:
        tell = self.draft.report.add
        redirects = [each.redirect for each in self._heard if each.redirect is not None]
        is_mixed = any(each.clear and each.redirect is None for each in self._heard)
        for each in redirects:
            if not has_tls or is_mixed:
                why = (
                    "another server answers in clear" if is_mixed else "nothing is served over TLS"
                )
                detail = f"tls.redirect_http is one for all sites, and {why}"
                tell(each.place, str(each), Outcome.LEFT_OUT, detail)
            else:
                self.draft.section("tls")["redirect_http"] = True
                code = each.args[0] if each.args else ""
                outcome = Outcome.CARRIED if code == "308" else Outcome.CHANGED
                tell(each.place, str(each), outcome, "tls.redirect_http, which answers 308")

    def _listeners(self, scope: Scope) -> _Heard:
        heard = _Heard()
        listens = list(scope.mine("listen"))
        if not listens:
            heard.clear = True
        for each in listens:
            each.is_told = True
            address = _listener(each.args[0]) if each.args else None
            if address is None:
                detail = "not an address and port; onetrip listens on TCP"
                self.draft.report.add(each.place, str(each), Outcome.LEFT_OUT, detail)
            elif "quic" in each.args:
                detail = "HTTP/3 is not served"
                self.draft.report.add(each.place, str(each), Outcome.LEFT_OUT, detail)
            else:
                is_secure = "ssl" in each.args
                heard.secure, heard.clear = heard.secure or is_secure, heard.clear or not is_secure
                self._listen(each, address, is_secure)
        self._http2(scope, listens, heard)
        return heard

    def _listen(self, each: Directive, address: str, is_secure: bool) -> None:
        known = self._secure if is_secure else self._clear
        known.setdefault(address, each)
        odd = [arg for arg in each.args[1:] if arg.partition("=")[0] not in _HARMLESS | {"ssl"}]
        if "proxy_protocol" in odd:
            odd.remove("proxy_protocol")
            detail = "proxy.proxy_protocol: required, with proxy.trusted_proxies: set both"
            self.draft.report.add(each.place, str(each), Outcome.LEFT_OUT, detail)
        if odd:
            self.draft.report.add(each.place, str(each), Outcome.LEFT_OUT, f"no {' '.join(odd)}")
        if {"default_server", "default"} & set(each.args):
            detail = "requests for unknown hosts get 404: no site is the default one"
            self.draft.report.add(each.place, str(each), Outcome.CHANGED, detail)

    def _pick(self, known: dict[str, Directive], key: str) -> str | None:
        """Return the one address to listen at; the others are reported."""
        chosen = next((a for a in known if not a.startswith("[")), next(iter(known), None))
        for address, each in known.items():
            if address == chosen:
                self.draft.report.add(each.place, str(each), Outcome.CARRIED, key)
            else:
                detail = f"{key} is one address, {chosen}; a host name may stand for several"
                self.draft.report.add(each.place, str(each), Outcome.LEFT_OUT, detail)
        return chosen

    def _http2(self, scope: Scope, listens: list[Directive], heard: _Heard) -> None:
        own = scope.find("http2")
        wanted = [each for each in listens if "http2" in each.args]
        wanted += [own] if own is not None and own.args == ("on",) else []
        if not wanted or not heard.secure:
            return
        each = wanted[0]
        each.is_told = True
        if find_spec("h2") is None:
            detail = "tls.http2 needs onetrip[http2], which is not installed here"
            self.draft.report.add(each.place, str(each), Outcome.LEFT_OUT, detail)
        else:
            self.draft.section("tls")["http2"] = True
            self.draft.report.add(each.place, str(each), Outcome.CARRIED, "tls.http2")

    def _hosts(self, server: Directive, scope: Scope) -> tuple[str, ...]:
        hosts: list[str] = []
        for each in scope.mine("server_name"):
            each.is_told = True
            found = [host for arg in each.args for host in self._host(each, arg)]
            hosts += found
            if found:
                self.draft.report.add(each.place, str(each), Outcome.CARRIED, "hosts")
        if hosts:
            return tuple(dict.fromkeys(hosts))
        if not self.names:
            detail = "a site needs the names of its hosts: give --host NAME"
            self.draft.report.add(server.place, "server", Outcome.LEFT_OUT, detail)
        return self.names

    def _host(self, each: Directive, text: str) -> tuple[str, ...]:
        host, more = text.lower().rstrip("."), tuple[str, ...]()
        if host.startswith(".") and _HOST.fullmatch(host[1:]):
            more = (f"*{host}",)
            host = host[1:]
        if host in ("_", "") or not _HOST.fullmatch(host) or len(host) > 253:
            if host not in ("_", ""):
                detail = f"{text!r} is no host name; *.example.com stands for one more label"
                self.draft.report.add(each.place, str(each), Outcome.LEFT_OUT, detail)
            return ()
        if more or host.startswith("*."):
            detail = "in onetrip *. stands for one more label, not for several"
            self.draft.report.add(each.place, str(each), Outcome.CHANGED, detail)
        return (host, *more)

    def _tls(self, scope: Scope, hosts: tuple[str, ...]) -> None:
        certs, keys = (scope.find_all(name) for name in ("ssl_certificate", "ssl_certificate_key"))
        for cert, key in zip(certs, keys, strict=False):
            paths = tuple(str(self.folder / (each.args or ("",))[0]) for each in (cert, key))
            self._certificate(cert, key, (paths[0], paths[1]), hosts)
        for each in scope.find_all("ssl_protocols"):
            each.is_told = True
            is_newest = set(each.args) == {"TLSv1.3"}
            if is_newest:
                self.draft.section("tls").setdefault("min_version", "1.3")
            is_same = set(each.args) <= {"TLSv1.2", "TLSv1.3"}
            outcome = Outcome.CARRIED if is_same else Outcome.CHANGED
            detail = "tls.min_version" if is_same else "nothing older than TLS 1.2 is spoken"
            self.draft.report.add(each.place, str(each), outcome, detail)

    def _certificate(
        self, cert: Directive, key: Directive, paths: tuple[str, str], hosts: tuple[str, ...]
    ) -> None:
        names = [host for host in hosts if not self._is_taken(host, paths)]
        try:
            if paths not in self._certificates:
                entry = CertificateEntry(cert=paths[0], key=paths[1])
                build_certificates(TlsEntry(listen="x", certificates=[entry]), self.folder)
            self._certificates.setdefault(paths, []).extend(
                name for name in names if name not in self._certificates[paths]
            )
            outcome, detail = Outcome.CARRIED, "tls.certificates"
        except ConfigError as error:
            reason = str(error).partition(": ")[2]
            outcome, detail = Outcome.LEFT_OUT, f"it cannot be served: {reason}"
        for each in (cert, key):
            if not each.is_told or outcome is Outcome.LEFT_OUT:
                self.draft.report.add(each.place, str(each), outcome, detail)
            each.is_told = True

    def _is_taken(self, host: str, paths: tuple[str, str]) -> bool:
        return any(host in found for key, found in self._certificates.items() if key != paths)

    def _redirect(self, scope: Scope) -> Directive | None:
        """Return what sends every request to https, or None."""
        roots = [b for b in scope.mine("location") if b.args == ("/",) and b.block is not None]
        places = [scope.own, *(b.block or [] for b in roots)]
        places += [b.block or [] for b in scope.mine("if")]
        for block in places:
            for each in block:
                if each.name == "return" and is_to_https(each):
                    _tell_all(scope.own, block, each)
                    return each
        return None


def is_to_https(each: Directive) -> bool:
    """Tell whether a `return` sends a request to the same URL over TLS."""
    code, address = ("302", *each.args) if len(each.args) == 1 else (*each.args, "", "")[:2]
    return code in _CODES and _TO_HTTPS.fullmatch(address) is not None


def _tell_all(server: list[Directive], block: list[Directive], found: Directive) -> None:
    """Mark the redirect, the block it stands in, and the `return 404` that certbot adds."""
    found.is_told = True
    for each in server:
        if each.block is block or (each.name == "return" and each.args[:1] == ("404",)):
            each.is_told = True


def _listener(text: str) -> str | None:
    if text.startswith("unix:"):
        return None
    if re.fullmatch(r"\d{1,5}", text):
        text = f"0.0.0.0:{text}"
    elif not re.search(r":\d{1,5}$", text):
        text += ":80"
    return text.replace("*:", "0.0.0.0:")
