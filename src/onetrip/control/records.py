"""Where the API keeps its own records: tokens, the audit log, replies to repeated requests.

On disk with `data_dir`; without it in memory, opened at the first need, for as long as the node
runs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

from onetrip.control.store import AsyncStore, Store

P = ParamSpec("P")
T = TypeVar("T")


class Records:
    """The store of a node, or one in memory.

    Args:
        store: the node's; None where it keeps nothing on disk.
    """

    def __init__(self, store: AsyncStore | None) -> None:
        self.is_durable = store is not None
        self._store = store
        self._opening = asyncio.Lock()

    async def call(
        self, method: Callable[Concatenate[Store, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run a function of a store.

        Raises:
            StoreError: it cannot be read or written.
        """
        async with self._opening:
            if self._store is None:
                self._store = await AsyncStore.open(Path(":memory:"))
        return await self._store.call(method, *args, **kwargs)

    async def close(self) -> None:
        """Close what was opened here."""
        if self._store is not None and not self.is_durable:
            await self._store.close()
