"""A small synchronous client of the admin API, on the standard library alone.

Replies are bounded in time and size, and decoded into the structs of `control/schemas`; whatever
is not such a reply is an error with one line of what to do.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any, TypeVar
from urllib.parse import quote, urlencode, urlsplit

import msgspec

from onetrip.control.about import ProblemBody
from onetrip.control.api_versions import HEADER, LATEST
from onetrip.errors import ApiError, ConfigError, Kind, OnetripError, Side

DEFAULT_API = "http://127.0.0.1:9400"

MAX_REPLY = 64 * 1024 * 1024
"""Largest reply, bytes: twice what the API's largest listing needs."""

MAX_LINE = 1024 * 1024
"""Largest line of a stream, bytes; a status of many problems has some kB."""

TIMEOUT = 10.0
"""Longest wait for the node, s."""

UPGRADE_TIMEOUT = 75.0
"""Longest wait for an upgrade, s; the node gives its successor 60."""

T = TypeVar("T", bound=msgspec.Struct)

_KINDS = {kind.value: kind for kind in Kind}


class UnreachableError(OnetripError):
    """The admin API could not be reached, or what answered is not it."""

    side = Side.UPSTREAM
    kind = Kind.CONNECT


class Client:
    """Calls one node's admin API.

    Args:
        api: base URL.
        token: bearer token, or None.
        timeout: s, for each wait.

    Raises:
        ConfigError: `api` is no http(s) URL, or the token cannot be sent in a header.
    """

    def __init__(self, api: str, token: str | None = None, timeout: float = TIMEOUT) -> None:
        try:
            parts = urlsplit(api)
            port = parts.port
        except ValueError as error:
            raise ConfigError(f"--api {api!r} is no URL: {error}") from error
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigError(f"--api {api!r} is no http:// or https:// URL")
        if token is not None and not (token.isascii() and token.isprintable() and token):
            raise ConfigError("the token is empty or holds characters that no header can carry")
        self.api = api.rstrip("/")
        self._https = parts.scheme == "https"
        self._host, self._port, self._prefix = parts.hostname, port, parts.path.rstrip("/")
        self._token = token
        self._timeout = timeout

    def get(self, path: tuple[str, ...], want: type[T], query: Mapping[str, str | None]) -> T:
        """Read `/v1/<path>` as a `want`; query parameters that are None are left out.

        Raises:
            ApiError: the node refused.
            UnreachableError: it did not answer, or not as an admin API does.
        """
        sent = {name: value for name, value in query.items() if value is not None}
        return self._call("GET", path, want, query=sent)

    def patch(
        self,
        path: tuple[str, ...],
        body: Mapping[str, Any],
        want: type[T],
        *,
        is_dry_run: bool = False,
    ) -> T:
        """Change `/v1/<path>`; raises as `get`."""
        data = msgspec.json.encode(body)
        return self._call("PATCH", path, want, query=_dry_run(is_dry_run), body=data)

    def post(
        self,
        path: tuple[str, ...],
        want: type[T],
        body: Mapping[str, Any] | None = None,
        *,
        is_dry_run: bool = False,
    ) -> T:
        """Ask for an action; raises as `get`."""
        data = msgspec.json.encode(body or {})
        return self._call("POST", path, want, query=_dry_run(is_dry_run), body=data)

    def put(
        self,
        path: tuple[str, ...],
        want: type[T],
        body: Mapping[str, Any],
        *,
        is_dry_run: bool = False,
    ) -> T:
        """Declare `/v1/<path>`; raises as `get`."""
        data = msgspec.json.encode(body)
        return self._call("PUT", path, want, query=_dry_run(is_dry_run), body=data)

    def upload(self, path: tuple[str, ...], want: type[T], data: bytes) -> T:
        """Send a gzipped tar to `/v1/<path>`; raises as `get`."""
        return self._call("PUT", path, want, body=data, media_type="application/gzip")

    def delete(self, path: tuple[str, ...], *, is_dry_run: bool = False) -> None:
        """Delete `/v1/<path>`; raises as `get`."""
        address = self._address(path) + ("?dry_run=true" if is_dry_run else "")
        status, reply = self._exchange("DELETE", address, None)
        if status not in (200, 204):
            raise self._refusal(status, reply)

    def lines(self, path: tuple[str, ...]) -> Iterator[str]:
        """Return the lines of a stream, as they come; raises as `get`."""
        make = HTTPSConnection if self._https else HTTPConnection
        connection = make(self._host, self._port, timeout=self._timeout)
        try:
            connection.request("GET", self._address(path), None, self._headers(None))
            response = connection.getresponse()
            if response.status != 200:
                raise self._refusal(response.status, response.read(MAX_REPLY))
            while line := response.readline(MAX_LINE):
                yield line.decode(errors="replace").rstrip("\n")
        except (OSError, HTTPException, ValueError) as error:
            raise self._unreachable(error) from error
        finally:
            connection.close()

    def _unreachable(self, error: Exception) -> UnreachableError:
        return UnreachableError(
            f"cannot reach the admin API at {self.api}: {_reason(error)}; "
            "is the node running, and is --api right?"
        )

    def _address(self, path: tuple[str, ...]) -> str:
        return f"{self._prefix}/v1/" + "/".join(quote(part, safe="") for part in path)

    def _call(
        self,
        method: str,
        path: tuple[str, ...],
        want: type[T],
        *,
        query: Mapping[str, str] | None = None,
        body: bytes | None = None,
        media_type: str = "application/json",
    ) -> T:
        address = self._address(path)
        if query:
            address += "?" + urlencode(query)
        status, reply = self._exchange(method, address, body, media_type)
        if status not in (200, 201):
            raise self._refusal(status, reply)
        try:
            return msgspec.json.decode(reply, type=want)
        except (msgspec.DecodeError, RecursionError) as error:
            raise UnreachableError(
                f"{self.api} does not answer as onetrip does: {error}"
            ) from error

    def _exchange(
        self, method: str, address: str, body: bytes | None, media_type: str = "application/json"
    ) -> tuple[int, bytes]:
        make = HTTPSConnection if self._https else HTTPConnection
        connection = make(self._host, self._port, timeout=self._timeout)
        try:
            headers = self._headers(None if body is None else media_type)
            connection.request(method, address, body, headers)
            response = connection.getresponse()
            reply = response.read(MAX_REPLY + 1)
        except (OSError, HTTPException, ValueError) as error:
            raise self._unreachable(error) from error
        finally:
            connection.close()
        if len(reply) > MAX_REPLY:
            raise UnreachableError(f"reply of {self.api} exceeds limit of {MAX_REPLY} bytes")
        return response.status, reply

    def _headers(self, media_type: str | None) -> dict[str, str]:
        headers = {"Accept": "application/json", "Connection": "close", HEADER: LATEST}
        if media_type is not None:
            headers["Content-Type"] = media_type
        if self._token is not None:
            headers["Authorization"] = f"Bearer {self._token}"
        return headers

    def _refusal(self, status: int, reply: bytes) -> OnetripError:
        try:
            found = msgspec.json.decode(reply, type=ProblemBody)
        except (msgspec.DecodeError, RecursionError):
            return UnreachableError(f"{self.api} answered {status}, and not as onetrip does")
        detail = found.detail
        if status == 401:
            detail += "; give --token-file FILE, or set ONETRIP_TOKEN"
        kind = _KINDS.get(found.kind, Kind.INVALID)
        return ApiError(detail, field=found.field, kind=kind)


def _dry_run(is_dry_run: bool) -> dict[str, str]:
    return {"dry_run": "true"} if is_dry_run else {}


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    text = error.strerror if isinstance(error, OSError) else None
    return text or str(error) or type(error).__name__
