"""What WCAG 2.2 AA asks of a page, measured in a browser: contrast, names, targets, the keyboard.

Sources: https://www.w3.org/TR/WCAG22/ 1.4.3, 1.4.11, 2.5.8; its definition of relative luminance.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from support.chromium import Page

CHECKS = Path(__file__).with_suffix(".js")

NAMED = frozenset(
    {
        "button",
        "link",
        "textbox",
        "searchbox",
        "combobox",
        "switch",
        "dialog",
        "region",
        "image",
    }
)
"""Roles that mean nothing without a name."""


async def check(page: Page, name: str) -> Any:
    """Return what a check of page_checks.js found."""
    source = CHECKS.read_text(encoding="utf-8")
    return await page.evaluate(f"{source}\nchecks.{name}()")


async def contrast_faults(page: Page) -> list[str]:
    """Return what has too little contrast with what is behind it."""
    found: dict[str, Any] = await check(page, "contrast")
    assert found["seen"] > 100, "the page was not there to be measured"
    return list(found["bad"])


async def nameless(page: Page, least: int = 100) -> list[str]:
    """Return the controls, regions and images without a name that a screen reader could say.

    Args:
        least: nodes that there are at least; behind an open dialog nothing is told.
    """
    await page.call("Accessibility.enable")
    nodes = (await page.call("Accessibility.getFullAXTree"))["nodes"]
    roles = [(n["role"]["value"], n.get("name", {}).get("value", "")) for n in nodes if told(n)]
    assert len(roles) >= least
    return [role for role, name in roles if role in NAMED and not name.strip()]


def told(node: dict[str, Any]) -> bool:
    """Tell whether a node of the accessibility tree is told to anybody."""
    return not node.get("ignored") and "role" in node


async def tab_stops(page: Page, most: int = 200) -> list[str]:
    """Press Tab from the top until the focus leaves the page; return where it was.

    Raises:
        AssertionError: it never leaves, or where it is cannot be seen.
    """
    await page.evaluate("document.activeElement.blur(); window.scrollTo(0, 0)")
    stops: list[str] = []
    for _ in range(most):
        await page.press("Tab")
        name, is_ringed = await check(page, "focused")
        if not name or (stops and name == stops[0]):
            return stops
        assert is_ringed, f"the focus on {name} cannot be seen"
        stops.append(name)
    raise AssertionError(f"the focus is trapped: {stops[-5:]}")
