"""A routed session: each transaction goes to the primary or to a fresh replica.

Outside of a transaction a batch chooses its server, and the session gives the connection back when
the batch is done; a transaction stays where it began. This half sends, and waits where it must;
`answers` is the half that hears.
"""

from __future__ import annotations

import asyncio

from onetrip.errors import Kind, LimitError, OnetripError, ProtocolError, UpstreamError
from onetrip.relay.answers import Answers
from onetrip.relay.batches import COPY, END, FLUSH, QUERY, SYNC, Batch, next_batch
from onetrip.relay.client_link import ClientLink
from onetrip.relay.server_link import Answer, ServerLink
from onetrip.relay.session_parts import SessionParts, sqlstate
from onetrip.relay.session_state import SessionState, differences
from onetrip.relay.statements import Statements
from onetrip.wire.postgres_messages import error_response, query, ready
from onetrip.wire.sql_intent import EMPTY, Act


class RoutedSession:
    """One client's session, after its login.

    Args:
        parts: what all sessions of the account share.
    """

    def __init__(self, client: ClientLink, parts: SessionParts, state: SessionState) -> None:
        self._client = client
        self._parts = parts
        self._state = state
        self._statements = Statements(parts.classifier)
        self._answers = Answers(client, parts, state, self._statements, self._wake)
        self._is_skipping = False
        """A batch failed here; what belongs to it is ignored until its Sync."""
        self._waker: asyncio.Future[None] | None = None
        client.on_change = self._wake
        client.on_room = self._room

    @property
    def link(self) -> ServerLink | None:
        """The server connection that it holds."""
        return self._answers.link

    @property
    def active_at(self) -> float:
        """When the client last sent or got something, s; now while it waits for an answer."""
        return self._client.active_at if self.is_quiet else float("inf")

    @property
    def is_quiet(self) -> bool:
        """Tell whether nothing is under way: no transaction, no batch."""
        answers = self._answers
        is_busy = answers.awaits or answers.is_open or answers.again or self._client.queue
        return self._state.is_idle and not is_busy

    async def run(self) -> None:
        """Serve the client until it ends."""
        answers = self._answers
        try:
            while not (answers.is_over or self._client.is_lost):
                if self._client.failure is not None:
                    self._refuse(self._client.failure)
                elif answers.again is not None:
                    batch, answers.again = answers.again, None
                    await self._send(batch, use_replica=False)
                elif (found := self._take()) is None:
                    await self._wait()
                elif found.last == END:
                    return
                else:
                    await self._send(found)
        except ProtocolError as error:
            self._refuse(error)
        finally:
            answers.leave()
            self._client.close()

    def end(self, code: str, text: str) -> None:
        """End the session, and tell the client why."""
        self._answers.end(code, text)

    def _refuse(self, error: OnetripError) -> None:
        self._parts.usage.errors[error.kind] += 1
        self.end("54000" if isinstance(error, LimitError) else "08P01", str(error))

    def _take(self) -> Batch | None:
        answers = self._answers
        if answers.awaits and not answers.is_copying:
            return None
        if answers.link is not None and not answers.link.is_writable:
            return None
        if not (self._client.has_room or answers.is_copying):
            return None  # it must take its answers before it gets more of them
        return next_batch(self._client, is_copying=answers.is_copying)

    async def _send(self, batch: Batch, *, use_replica: bool = True) -> None:
        if self._is_answered_here(batch):
            return
        self._read(batch)
        if self._answers.link is None:
            try:
                await self._attach(batch, use_replica=use_replica)
            except OnetripError as error:
                self._fail(batch, error)
                return
        elif self._answers.is_replica and self._state.would_pin(batch.intent):
            text = "what outlives a transaction cannot begin in one that runs on a replica"
            self._fail(batch, UpstreamError(text, kind=Kind.UNSUPPORTED))
            return
        if self._answers.link is not None:
            self._submit(batch, self._answers.link)

    def _is_answered_here(self, batch: Batch) -> bool:
        """Leave out what a server would ignore; tell whether nothing is left to send."""
        if self._is_skipping:
            if batch.last == SYNC:
                self._is_skipping = False
                self._client.write(ready(self._state.status))
            return True
        if self._answers.link is None:
            # COPY data behind a COPY that has failed.
            batch.messages = [each for each in batch.messages if each.kind not in COPY]
            kinds = [each.kind for each in batch.messages]
            if kinds == [SYNC]:
                self._client.write(ready(b"I"))
            return kinds in ([], [SYNC], [FLUSH])
        return False

    def _read(self, batch: Batch) -> None:
        if self._answers.is_copying:
            return
        if batch.last == QUERY:
            batch.intent = self._parts.classifier.classify(batch.messages[-1].body[:-1])
        else:
            found = self._statements.intent_of(batch.messages)
            is_known = found.is_executed or found.intent.act is Act.READ
            batch.intent = found.intent if is_known else EMPTY

    async def _attach(self, batch: Batch, *, use_replica: bool) -> None:
        # A Flush leaves open what follows, so only whole batches choose a replica.
        may_use = use_replica and batch.ends and self._state.may_use_replica(batch.intent)
        link = await self._parts.replica() if may_use else None
        is_replica = link is not None
        if link is None:
            self._parts.usage.stale += may_use
            link = await self._parts.primary()
            self._parts.usage.primary += 1
        if self._client.is_lost or self._answers.is_over:
            self._parts.servers.release(link)
        else:
            self._answers.attach(link, batch, is_replica=is_replica)

    def _submit(self, batch: Batch, link: ServerLink) -> None:
        answers, state = self._answers, self._state
        if state.is_idle and not (answers.awaits or answers.is_open):
            is_read = batch.ends and state.may_use_replica(batch.intent)
            self._parts.usage.transactions[link.name, "read" if is_read else "write"] += 1
            self._replay_settings(link)
        if batch.last == QUERY:
            data = self._query(batch, link)
        else:
            data = self._statements.rewrite(batch.messages, link, is_pinned=state.is_pinned)
        was_pinned = state.is_pinned
        state.sent(batch.intent)
        self._parts.usage.pinned += state.is_pinned and not was_pinned
        link.submit(data, ends=batch.ends and not answers.awaits)
        answers.sent(link, batch.intent, ends=batch.ends)

    def _query(self, batch: Batch, link: ServerLink) -> bytes:
        link.unnamed = None  # a simple query drops it
        *before, last = batch.messages
        data = b"".join(each.data for each in before)
        if batch.intent.deallocates is None:
            return data + last.data
        text = self._statements.own_text(
            last.body[:-1], batch.intent, link, is_pinned=self._state.is_pinned
        )
        return data + query(text.decode("utf-8", "surrogateescape"))

    def _replay_settings(self, link: ServerLink) -> None:
        sql = differences(self._state.settings, link.settings)
        if sql:
            link.settings = dict(self._state.settings)
            link.ask(sql, lambda answer: self._replayed(link, answer))

    def _replayed(self, link: ServerLink, answer: Answer) -> None:
        if answer.code and not link.is_lost:
            # What follows would run under other settings than it was meant for.
            link.abort()

    def _fail(self, batch: Batch, error: OnetripError) -> None:
        self._parts.usage.errors[error.kind] += 1
        answer = error_response(sqlstate(error), str(error))
        if batch.ends:
            answer += ready(self._state.status)
        else:
            self._is_skipping = True
        self._client.write(answer)

    def _room(self, has_room: bool) -> None:
        link = self._answers.link
        if link is not None and link.transport is not None and not link.transport.is_closing():
            if has_room:
                link.transport.resume_reading()
            else:
                link.transport.pause_reading()
        if has_room:
            self._wake()

    def _wake(self) -> None:
        if self._waker is not None and not self._waker.done():
            self._waker.set_result(None)

    async def _wait(self) -> None:
        self._waker = asyncio.get_running_loop().create_future()
        try:
            await self._waker
        finally:
            self._waker = None
