"""The admin application: guard, problem documents, API handlers and dashboard in one place.

`build_admin` is all that the composition root needs. The CLI and the dashboard are clients of
this API and of nothing else.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from secrets import token_bytes

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from onetrip.control import tokens
from onetrip.control.api_versions import HEADER, LATEST, VERSION, version_of
from onetrip.control.dispatch import Dispatcher
from onetrip.control.guard import FIELDS, SECURITY_HEADERS, guard, is_open
from onetrip.control.handlers import Handlers
from onetrip.control.operations import MAX_BODY
from onetrip.control.oversight import Oversight
from onetrip.control.policies import Policies
from onetrip.control.problems import problem_of
from onetrip.control.rates import RateLimit
from onetrip.control.records import Records
from onetrip.control.releases import Releases
from onetrip.control.responses import REQUEST_ID
from onetrip.control.store import AsyncStore
from onetrip.control.stream import Streams
from onetrip.control.tokens import Token
from onetrip.control.view import NodeView
from onetrip.control.webhooks import Webhooks
from onetrip.errors import OnetripError
from onetrip.observe.logs import Log
from onetrip.timing import Clock, MonotonicClock

ASSETS = {
    ".css": "text/css",
    ".html": "text/html",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}
"""Content type of each kind of dashboard file."""

_DASHBOARD = Path(__file__).with_name("dashboard")
# Not by `importlib.resources`: that imports `zipfile`, half a megabyte that a node never uses.

ID_HEADER = "X-Request-Id"
"""Names a request, in its reply, in the log and in the audit log; a caller may choose it."""

_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


def build_admin(
    view: NodeView,
    *,
    token: str | None,
    log: Log,
    wall: Callable[[], float] | None = None,
    store: AsyncStore | None = None,
    rates: RateLimit | None = None,
    clock: Clock | None = None,
    random: Callable[[int], bytes] = token_bytes,
) -> web.Application:
    """Return the admin application of a node.

    Args:
        view: the node.
        token: bearer token that callers must send; None permits loopback use only.
        wall: Unix time source, s; None takes the machine's clock.
        store: the node's; None keeps nothing on disk.
        rates: how often each caller may call; None for no limit.
        clock: monotonic time; None takes the machine's.
        random: returns so many random bytes.
    """
    clock = clock or MonotonicClock()
    wall = wall or clock.wall
    records, changing = Records(store), asyncio.Lock()

    async def find(text: str) -> Token | None:
        return await records.call(tokens.use, tokens.digest_of(text), wall())

    app = web.Application(
        middlewares=[_problems(log, random), guard(token, find, rates)], client_max_size=MAX_BODY
    )
    app.on_response_prepare.append(_secure)
    app.on_cleanup.append(lambda app: records.close())
    streams = Streams(view, wall, clock.now)
    app.on_shutdown.append(lambda app: streams.close())
    dispatcher = Dispatcher(records, wall, log)
    app.add_routes(
        dispatcher.routes(
            Handlers(view, wall, changing),
            Policies(view, records, changing),
            Oversight(view, records, wall, random),
            Releases(view, changing),
            streams,
            Webhooks(view),
        )
    )
    app.add_routes(_dashboard_routes())
    return app


def _problems(log: Log, random: Callable[[int], bytes]) -> Middleware:
    """Return the outermost middleware: requests have ids, failures become problem documents."""

    @web.middleware
    async def translate(request: web.Request, handler: Handler) -> web.StreamResponse:
        given = request.headers.get(ID_HEADER, "")
        REQUEST_ID.set(given if _ID.fullmatch(given) else random(8).hex())
        VERSION.set(LATEST)
        try:
            VERSION.set(version_of(request.headers.get(HEADER)))
            return await handler(request)
        except (OnetripError, web.HTTPException) as error:
            reply = problem_of(error)
            if reply.status in (401, 403):
                log.info(
                    "control.denied",
                    status=reply.status,
                    reason=str(error),
                    request_id=REQUEST_ID.get(),
                )
            return reply
        except Exception as error:
            log.error(
                "control.failed",
                cause=error,
                path=request.path,
                error=type(error).__name__,
                request_id=REQUEST_ID.get(),
            )
            return problem_of(error)

    return translate


async def _secure(request: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(SECURITY_HEADERS)
    response.headers.update(FIELDS.get())
    if request.path.startswith("/v1/"):
        response.headers[HEADER] = VERSION.get()
    if known := REQUEST_ID.get():
        response.headers[ID_HEADER] = known
    response.headers["Cache-Control"] = "no-cache" if is_open(request.path) else "no-store"
    if "Server" in response.headers:
        response.headers["Server"] = "onetrip"


def _dashboard_routes() -> list[web.RouteDef]:
    """List the dashboard's files once, so that no request can name one outside them."""
    routes = []
    for file in sorted(_DASHBOARD.iterdir()):
        kind = ASSETS.get(f".{file.name.rpartition('.')[2]}")
        if kind is not None:
            path = "/" if file.name == "index.html" else f"/assets/{file.name}"
            routes.append(web.get(path, _static(file, kind)))
    return routes


def _static(file: Path, kind: str) -> Handler:
    charset = None if kind == "image/svg+xml" else "utf-8"

    @cache  # an idle node that nobody looks at has no room for them
    def content() -> bytes:
        return file.read_bytes()

    async def serve(request: web.Request) -> web.Response:
        return web.Response(body=content(), content_type=kind, charset=charset)

    return serve
