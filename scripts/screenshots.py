"""Starts the demo and takes the README's pictures of its dashboard, light and dark.

    python scripts/screenshots.py [FOLDER]

Needs Chromium. Takes about two minutes: the pictures wait until the interval of the busiest moved
route is known. Exit code 1 when that never comes.
"""

from __future__ import annotations

import asyncio
import base64
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "docs" / "images"

TIMEOUT = 240.0
"""Longest wait for the demo's story, and again for the interval, s."""

WIDTH, AIR = 1240, 14
"""Of a picture, CSS pixels, and what is left below its last panel."""

MAX_SIZE = 300_000
"""Largest picture, bytes: the README is read over slow lines, too."""

READY = "document.querySelector('#histogram .verdict strong.gain')?.textContent.includes('±')"
END = """
Math.max(...['#why', '.side-cards'].map((name) => document.querySelector(name))
  .map((e) => e.offsetTop + e.offsetHeight))
"""

sys.path.insert(0, str(ROOT / "tests"))

from support.chromium import Page, open_chromium  # noqa: E402


async def main(folder: Path) -> None:
    """Run the demo and take the pictures.

    Raises:
        SystemExit: the demo ended early, or a picture is too large.
    """
    demo = await asyncio.create_subprocess_exec(
        sys.executable, "-u", "-m", "onetrip", "demo", "--no-color", stdout=asyncio.subprocess.PIPE
    )
    try:
        address = await asyncio.wait_for(_story(demo), TIMEOUT)
        async with open_chromium() as page:
            for name, scheme in (("dashboard.png", "light"), ("dashboard-dark.png", "dark")):
                size = await _take(page, address, scheme, folder / name)
                print(f"{folder / name}: {size} bytes")
                if size > MAX_SIZE:
                    raise SystemExit(f"{name} exceeds {MAX_SIZE} bytes")
    finally:
        if demo.returncode is None:
            demo.terminate()
        await demo.wait()


async def _story(demo: asyncio.subprocess.Process) -> str:
    """Read what the demo tells to its end, and return the address of the first node's dashboard."""
    assert demo.stdout is not None
    async for line in demo.stdout:
        text = line.decode()
        print(text, end="")
        if found := re.search(r"stays up.*(http://\S+)", text):
            return found.group(1)
    raise SystemExit("the demo ended early")


async def _take(page: Page, address: str, scheme: str, file: Path) -> int:
    await page.open(address, scheme=scheme, width=WIDTH)
    await page.wait_for(f"Boolean({READY})", timeout=TIMEOUT)
    await page.wait_for("document.querySelectorAll('#history .line-placed').length > 0")
    tiles = "document.getElementById('tiles').innerText"
    await page.wait_for(f"!{tiles}.includes('too little control')", timeout=TIMEOUT)
    await page.resize(WIDTH, int(await page.evaluate(END)) + AIR)
    await asyncio.sleep(1.0)
    found = await page.call("Page.captureScreenshot")
    data = base64.b64decode(found["data"])
    await asyncio.to_thread(file.write_bytes, data)
    return len(data)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER))
