"""Whole nodes, so on the loop that nodes run on; fails if one leaves a task behind."""

from __future__ import annotations

import asyncio

import pytest
import uvloop


@pytest.hookimpl(optionalhook=True)
def pytest_asyncio_loop_factories(config, item):
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture(autouse=True)
async def no_leaked_tasks():
    before = asyncio.all_tasks()
    yield
    async with asyncio.timeout(5):
        while leaked := asyncio.all_tasks() - before - {asyncio.current_task()}:
            await asyncio.wait(leaked, timeout=0.05)
