"""Follows the endpoints of Kubernetes Services by the cluster\'s own API.

Plain HTTP: a list and then a watch of the EndpointSlices of one Service, as the pod\'s service
account. The token is read for every request, because it is replaced about once an hour.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path

import aiohttp

from onetrip.discover.book import DiscoveryError, KubernetesAccess
from onetrip.discover.slices import ExpiredError, SliceBook
from onetrip.errors import Kind
from onetrip.model.discovery import Source

TIMEOUT = 10.0
"""Longest time of a list, and until a watch begins, s."""

WATCH_TIME = 300.0
"""Length after which the server is asked to end a watch, s; it is then taken up again."""

SILENCE = WATCH_TIME + 30.0
"""Longest silence of a watch before it is taken for dead, s."""

PAGE = 500
"""Slices a page of the list."""

MAX_PAGE = 64 * 1024 * 1024
"""Largest page, bytes."""


class KubernetesApi:
    """The API of one cluster."""

    def __init__(self, access: KubernetesAccess) -> None:
        self._access = access
        self._session: aiohttp.ClientSession | None = None

    async def follow(self, source: Source, book: SliceBook, on_change: Callable[[], None]) -> None:
        """Follow a source until its watch ends, which is no failure; call again to go on.

        Args:
            book: what is known of the source, kept from call to call.
            on_change: called when the API answers, and whenever what is known may have changed.

        Raises:
            DiscoveryError: the API did not answer, or refused.
        """
        try:
            if not book.version:
                await self._list(source, book)
            await self._watch(source, book, on_change)
        except ExpiredError:
            book.version = ""
        except DiscoveryError:
            book.version = ""  # whatever was not understood, a list is
            raise
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            kind = Kind.TIMEOUT if isinstance(error, TimeoutError) else Kind.CONNECT
            raise DiscoveryError(f"Kubernetes API: {_reason(error)}", kind=kind) from error

    async def close(self) -> None:
        """Close connections."""
        if self._session is not None:
            await self._session.close()

    async def _list(self, source: Source, book: SliceBook) -> None:
        book.begin()
        query, timeout = {"limit": str(PAGE)}, aiohttp.ClientTimeout(total=TIMEOUT)
        while True:
            async with self._get(source, query, timeout) as reply:
                _check(reply)
                body = bytearray()
                async for chunk in reply.content.iter_any():
                    body += chunk
                    if len(body) > MAX_PAGE:
                        raise DiscoveryError(f"list of over {MAX_PAGE} bytes exceeds limit")
            following = book.list_page(bytes(body))
            if not following:
                return
            query = {"limit": str(PAGE), "continue": following}

    async def _watch(self, source: Source, book: SliceBook, on_change: Callable[[], None]) -> None:
        book.begin()
        query = {
            "watch": "1",
            "allowWatchBookmarks": "true",
            "resourceVersion": book.version,
            "timeoutSeconds": str(int(WATCH_TIME)),
        }
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=TIMEOUT, sock_read=SILENCE)
        async with self._get(source, query, timeout) as reply:
            _check(reply)
            on_change()  # also where nothing has changed: the API answers
            async for chunk in reply.content.iter_any():
                if book.feed(chunk):
                    on_change()

    def _get(
        self, source: Source, query: dict[str, str], timeout: aiohttp.ClientTimeout
    ) -> aiohttp.client._RequestContextManager:
        namespace, _, service = source.name.partition("/")
        return self._client().get(
            f"{self._access.url}/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices",
            params={"labelSelector": f"kubernetes.io/service-name={service}", **query},
            headers={"Accept": "application/json", **self._credentials()},
            timeout=timeout,
            allow_redirects=False,
        )

    def _credentials(self) -> dict[str, str]:
        if not self._access.token_file:
            return {}
        try:
            token = Path(self._access.token_file).read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise DiscoveryError("the service account's token cannot be read") from error
        return {"Authorization": f"Bearer {token}"}

    def _client(self) -> aiohttp.ClientSession:
        if self._session is None:
            try:
                context = ssl.create_default_context(cafile=self._access.ca_file or None)
            except OSError as error:
                raise DiscoveryError("the API's authority cannot be read") from error
            connector = aiohttp.TCPConnector(ssl=context, limit=0)
            self._session = aiohttp.ClientSession(connector=connector, trust_env=False)
        return self._session


def _check(reply: aiohttp.ClientResponse) -> None:
    if reply.status == 200:
        return
    if reply.status == 410:
        raise ExpiredError("version is too old")
    if reply.status in (401, 403):
        raise DiscoveryError(
            f"Kubernetes API answered {reply.status}: the service account may not list and watch "
            "endpointslices",
            kind=Kind.DENIED,
        )
    raise DiscoveryError(f"Kubernetes API answered {reply.status}")


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or type(error).__name__
