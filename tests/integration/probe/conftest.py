"""Every test here runs on both event loops, and fails if it leaves a task behind."""

from __future__ import annotations

import asyncio

import pytest
import uvloop

from support.waits import no_task_since


@pytest.hookimpl(optionalhook=True)
def pytest_asyncio_loop_factories(config, item):
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@pytest.fixture(autouse=True)
async def no_leaked_tasks():
    before = asyncio.all_tasks()
    yield
    await no_task_since(before)
