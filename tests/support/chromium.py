"""Headless Chromium over its DevTools protocol: load a page, act on it, hear its errors.

Chromium runs as a process of its own with a throw-away profile and no network but the one the
test names. Only what the dashboard's tests need is here.

Source: https://chromedevtools.github.io/devtools-protocol/
"""

from __future__ import annotations

import asyncio
import base64
import itertools
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from subprocess import DEVNULL, Popen
from typing import Any

import aiohttp

from support.waits import BOUND

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--remote-debugging-port=0",
)

KEY_CODES = {"Tab": 9, "Enter": 13, "Escape": 27, " ": 32}
"""Virtual key codes, without which a page's default action does not run."""

START_TIMEOUT = 60.0
"""Longest wait for the browser, s; a cold start on a busy machine takes several."""


def find_chromium() -> str | None:
    """Return the path of an installed Chromium, or None."""
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)


class Page:
    """One browser tab.

    Attributes:
        errors: uncaught exceptions, console errors and failed loads, as text.
    """

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.errors: list[str] = []
        self._socket = socket
        self._ids = itertools.count(1)
        self._replies: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._reader = asyncio.get_running_loop().create_task(self._read())

    async def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Send one protocol command and return its result."""
        number = next(self._ids)
        reply: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._replies[number] = reply
        await self._socket.send_json({"id": number, "method": method, "params": params})
        found = await asyncio.wait_for(reply, START_TIMEOUT)
        if "error" in found:
            raise RuntimeError(f"{method}: {found['error']['message']}")
        result: dict[str, Any] = found["result"]
        return result

    async def evaluate(self, expression: str) -> Any:
        """Return the value of a JavaScript expression; promises are awaited."""
        found = await self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        if "exceptionDetails" in found:
            raise RuntimeError(str(found["exceptionDetails"]))
        return found["result"].get("value")

    async def wait_for(self, expression: str, timeout: float = BOUND) -> Any:
        """Poll an expression until it is true; return its value.

        Raises:
            TimeoutError: it never was; the message names the expression.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        while not (value := await self.evaluate(expression)):
            if loop.time() > deadline:
                raise TimeoutError(f"{expression} stayed {value!r}; errors: {self.errors}")
            await asyncio.sleep(0.05)
        return value

    async def open(
        self,
        url: str,
        *,
        scheme: str = "light",
        width: int = 1400,
        motion: str = "no-preference",
    ) -> None:
        """Load a page in a colour scheme."""
        for domain in ("Runtime", "Log", "Page", "Network"):
            await self.call(f"{domain}.enable")
        features = {"prefers-color-scheme": scheme, "prefers-reduced-motion": motion}
        told = [{"name": name, "value": value} for name, value in features.items()]
        await self.call("Emulation.setEmulatedMedia", features=told)
        await self.resize(width, 1800)
        await self.call("Page.navigate", url=url)
        await self.wait_for("location.href !== 'about:blank' && document.readyState === 'complete'")

    async def resize(self, width: int, height: int) -> None:
        """Set the size of the window, CSS pixels."""
        await self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )

    async def press(self, key: str, text: str = "", modifiers: int = 0) -> None:
        """Press and release a key, as a person would.

        Args:
            text: what the key types, where it types anything.
            modifiers: 8 for Shift.
        """
        code = KEY_CODES.get(key, 0)
        names = {"key": key, "code": key, "windowsVirtualKeyCode": code, "modifiers": modifiers}
        await self.call("Input.dispatchKeyEvent", type="keyDown", text=text, **names)
        await self.call("Input.dispatchKeyEvent", type="keyUp", **names)

    async def screenshot(self, path: Path) -> None:
        """Write the whole page as PNG."""
        found = await self.call("Page.captureScreenshot", captureBeyondViewport=True)
        await asyncio.to_thread(path.write_bytes, base64.b64decode(found["data"]))

    async def close(self) -> None:
        """Stop reading."""
        self._reader.cancel()
        await asyncio.gather(self._reader, return_exceptions=True)

    async def _read(self) -> None:
        async for message in self._socket:
            found = message.json()
            if reply := self._replies.pop(found.get("id", 0), None):
                reply.set_result(found)
            elif error := _error_of(found):
                self.errors.append(error)


@contextmanager
def run_chromium(*flags: str) -> Iterator[int]:
    """Run a browser and give the port of its protocol.

    Args:
        flags: further command line flags.

    Raises:
        RuntimeError: Chromium is not installed, or did not start.
    """
    program = find_chromium()
    if program is None:
        raise RuntimeError("chromium is not installed")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = [program, *FLAGS, *flags, f"--user-data-dir={profile}", "about:blank"]
        with Popen(command, stdout=DEVNULL, stderr=DEVNULL) as process:
            try:
                yield _port_of(Path(profile))
            finally:
                process.terminate()


@asynccontextmanager
async def open_tab(port: int) -> AsyncIterator[Page]:
    """Give a new tab of a browser that runs, with storage of its own."""
    async with aiohttp.ClientSession() as session:
        async with session.get(f"http://127.0.0.1:{port}/json/version") as reply:
            address = str((await reply.json())["webSocketDebuggerUrl"])
        async with session.ws_connect(address, max_msg_size=0) as socket:
            browser = Page(socket)
            made = await browser.call("Target.createBrowserContext")
            context = made["browserContextId"]
            target = await browser.call(
                "Target.createTarget", url="about:blank", browserContextId=context
            )
            address = f"ws://127.0.0.1:{port}/devtools/page/{target['targetId']}"
            try:
                async with session.ws_connect(address, max_msg_size=0) as tab:
                    page = Page(tab)
                    try:
                        yield page
                    finally:
                        await page.close()
            finally:
                await browser.call("Target.disposeBrowserContext", browserContextId=context)
                await browser.close()


@asynccontextmanager
async def open_chromium(*flags: str) -> AsyncIterator[Page]:
    """Run a browser for one tab, and give that.

    Args:
        flags: further command line flags.

    Raises:
        RuntimeError: Chromium is not installed, or did not start.
    """
    async with AsyncExitStack() as stack:
        starting = run_chromium(*flags)
        port = await asyncio.to_thread(starting.__enter__)
        stack.push_async_callback(asyncio.to_thread, starting.__exit__, None, None, None)
        yield await stack.enter_async_context(open_tab(port))


def _port_of(profile: Path) -> int:
    file = profile / "DevToolsActivePort"
    for _ in range(int(START_TIMEOUT / 0.05)):
        if file.exists() and (lines := file.read_text().split()):
            return int(lines[0])
        time.sleep(0.05)
    raise RuntimeError(f"chromium did not start within {START_TIMEOUT:g} s")


def _error_of(message: dict[str, Any]) -> str:
    params = message.get("params", {})
    match message.get("method"):
        case "Runtime.exceptionThrown":
            details = params["exceptionDetails"]
            return str(details.get("exception", {}).get("description") or details["text"])
        case "Runtime.consoleAPICalled" if params["type"] in ("error", "assert"):
            return str([a.get("value", a.get("description")) for a in params["args"]])
        case "Log.entryAdded" if params["entry"]["level"] == "error":
            return f"{params['entry']['text']} {params['entry'].get('url', '')}"
    return ""
