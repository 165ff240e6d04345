"""The half of a routed session that hears the servers: passes on, holds back, repeats, settles.

What a replica answers to the batch that chose it is held for its first kilobytes. Should the
replica refuse or vanish by then, nothing was passed on, and the batch runs on the primary instead;
it was a read, or began a transaction that only reads, so it has done nothing.

Behind a transaction that may have written, the primary is asked in the same breath how far its log
is. The client hears that it is done once that is known, so every later read here sees it.

Everything happens in the callbacks that bring bytes; nothing waits.
"""

from __future__ import annotations

from collections.abc import Callable

from onetrip.errors import OnetripError
from onetrip.relay.batches import Batch, Outlet
from onetrip.relay.client_link import ClientLink
from onetrip.relay.server_link import Answer, ServerLink
from onetrip.relay.session_parts import SessionParts
from onetrip.relay.session_state import SessionState
from onetrip.relay.statements import Statements
from onetrip.wire.postgres_messages import (
    RUN,
    Message,
    error_fields,
    error_response,
    read_parameter,
    ready,
)
from onetrip.wire.sql_intent import Intent, Setting

REPEATABLE = frozenset({"25006", "40001", "40P01", "57P01", "57P02", "57P03"})
"""Refused by a replica as such: read-only, in conflict with recovery, shutting down."""

_BYTES = " OPERATOR(pg_catalog.-) '0/0'::pg_catalog.pg_lsn)::pg_catalog.text"

LAZY_SQL = f"SELECT (pg_catalog.pg_current_wal_insert_lsn(){_BYTES}"
"""Asked behind a transaction that may not have waited for the disk.

What others have inserted and not committed is in it, too, and an idle server may leave that in
memory for many seconds; until then replicas seem to lack something.
"""

WRITTEN_SQL = (
    "SELECT (CASE pg_catalog.current_setting('synchronous_commit') WHEN 'off'"
    " THEN pg_catalog.pg_current_wal_insert_lsn() ELSE pg_catalog.pg_current_wal_flush_lsn() END"
    + _BYTES
)
"""Asked behind any other: a commit that waits for the disk is in what was flushed."""

IN_RECOVERY = "55000"
"""SQLSTATE of that question where nothing is written at all."""

LOST = "08006"


class Answers:
    """What the servers say to one session. An `Owner` of links.

    Args:
        wake: called when the session's task may go on.

    Attributes:
        link: the connection that the session holds, or None.
        is_replica: it leads to a replica.
        awaits: an answer is still to end.
        is_copying: the server takes COPY data.
        is_open: part of a batch was sent, its Sync was not.
        again: a batch that a replica refused, for the primary.
        is_over: the session has ended.
    """

    def __init__(
        self,
        client: ClientLink,
        parts: SessionParts,
        state: SessionState,
        statements: Statements,
        wake: Callable[[], None],
    ) -> None:
        self.link: ServerLink | None = None
        self.is_replica = self.awaits = self.is_copying = self.is_open = self.is_over = False
        self.again: Batch | None = None
        self._client = client
        self._parts = parts
        self._state = state
        self._statements = statements
        self._wake = wake
        self._outlet = Outlet(client)
        self._first: Batch | None = None
        """What the replica may still refuse."""
        self._is_refused = self._is_failed = False
        self._ready_data: bytes | None = None
        """ReadyForQuery that waits for the position."""
        self._is_asked = self._owes_position = self._has_retried = False
        self._tag = b""

    def attach(self, link: ServerLink, batch: Batch, *, is_replica: bool) -> None:
        """Hold a connection, for `batch` first."""
        self.link, link.owner = link, self
        self.is_replica = is_replica
        if is_replica:
            self._first = batch
            self._outlet.hold()

    def sent(self, link: ServerLink, intent: Intent, *, ends: bool) -> None:
        """A batch was sent, or a part of one; ask for the position where it is needed."""
        ends = ends and not self.awaits
        self.awaits = self.awaits or ends
        self.is_open = not self.awaits
        may_write = self._state.may_have_written and not self.is_replica
        # COPY would take our question for data; it is asked when that is over.
        if ends and may_write and not intent.may_copy:
            if self._state.is_idle or intent.may_end:
                self._ask(link)

    def end(self, code: str, text: str) -> None:
        """End the session, and tell the client why."""
        if not self.is_over:
            self.is_over = True
            self._outlet.discard()
            self._outlet.flush()
            self._client.write(error_response(code, text, severity="FATAL"))
        self._wake()

    def leave(self) -> None:
        """Give the connection back; one that is in the middle of something is of no use."""
        link, self.link = self.link, None
        if link is None:
            return
        link.owner = None
        if self._state.is_idle and not (self.awaits or self.is_open or link.is_busy):
            link.was_stateful = link.was_stateful or self._state.is_pinned
            self._parts.servers.release(link)
        else:
            link.abort()

    def replied(self, reply: Message) -> None:
        """See `Owner`."""
        kind = reply.kind
        if kind == ord("Z"):
            self._ready(reply)
        elif self._is_refused:
            return
        elif kind == ord("E"):
            self._error(reply)
        elif kind == ord("1"):
            if self.link is None or self._statements.parsed(self.link):
                self._outlet.write(reply.data)
        elif kind != ord("3") or self._statements.closed():
            if kind != RUN:
                self._note(reply)
            self._outlet.write(reply.data)

    def flush(self) -> None:
        """See `Owner`."""
        self._outlet.flush()

    def writable(self) -> None:
        """See `Owner`."""
        self._wake()

    def server_lost(self, error: OnetripError) -> None:
        """See `Owner`."""
        link, self.link = self.link, None
        if self._first is not None and self._outlet.is_held:
            self._repeat()
            return
        self._parts.usage.errors[error.kind] += 1
        is_whole = link is None or link.is_between_messages
        self._outlet.flush()
        if not is_whole:
            # Half a row was passed on; only a broken connection can tell that.
            self.is_over = True
            self._client.abort()
            self._wake()
        elif self.is_replica and self._state.is_idle and self.awaits:
            self._statements.failed()
            text = f"the replica was lost: {error}"
            self._client.write(error_response(LOST, text) + ready(b"I"))
            self._settle(b"I", is_failed=True)
            self._wake()
        else:
            is_working = self.awaits or self.is_open
            text = "; whether it did what it was asked last is not known" if is_working else ""
            self.end(LOST if is_working else "57P01", f"the server was lost: {error}{text}")

    def _note(self, reply: Message) -> None:
        if reply.kind == ord("C"):
            self._tag = reply.body
        elif reply.kind in b"GW":
            self.is_copying = True
            self._outlet.release()
            self._wake()
        elif reply.kind == ord("S"):
            self._state.reported(*read_parameter(reply.body))

    def _error(self, reply: Message) -> None:
        self._is_failed = True
        self._statements.failed()
        code = error_fields(reply.body).get("C")
        if self._first is not None and self._outlet.is_held and code in REPEATABLE:
            self._is_refused = True
        else:
            self._outlet.release()
            self._outlet.write(reply.data)

    def _ready(self, reply: Message) -> None:
        if self._is_refused:
            self._repeat()
            return
        self._outlet.release()
        self._first = None
        has_written = self._state.may_have_written and not self.is_replica
        self._settle(reply.body[:1], is_failed=self._is_failed)
        self._owes_position = has_written and self._state.is_idle
        self._ready_data = reply.data
        if not self._is_asked:
            self._conclude()

    def _settle(self, status: bytes, *, is_failed: bool) -> None:
        self.awaits = self.is_copying = self.is_open = self._is_failed = False
        tag, self._tag = self._tag, b""
        is_committed = not tag.startswith(b"ROLLBACK")
        applied = self._state.ready(status, is_failed=is_failed, is_committed=is_committed)
        for name in self._state.deallocated:
            self._statements.drop(name.encode("latin-1") or None)
        if self.link is not None:
            if self._state.deallocated:
                self.link.prepared.clear()
            self._note_settings(self.link, applied)

    def _note_settings(self, link: ServerLink, applied: list[Setting]) -> None:
        for setting in applied:
            if setting.sql is not None:
                link.settings[setting.name] = setting.sql
            elif setting.name:
                link.settings.pop(setting.name, None)
            else:
                link.settings.clear()

    def _ask(self, link: ServerLink) -> None:
        self._is_asked = True
        link.ask(LAZY_SQL if self._state.is_lazy else WRITTEN_SQL, self._told)

    def _told(self, answer: Answer) -> None:
        self._is_asked = False
        if answer.code == LOST:
            return  # `server_lost` follows
        if answer.code == IN_RECOVERY:
            self._owes_position = False
        elif not answer.code:
            self._parts.servers.standings.wrote(int(answer.rows[0][0] or "0"))
            self._owes_position = False
        if self._ready_data is not None:
            self._conclude()

    def _conclude(self) -> None:
        """Tell the client that its batch is done, unless a position is still to be learned."""
        link = self.link
        if self._owes_position and link is not None:
            if not self._has_retried:
                self._has_retried = True
                self._ask(link)
                return
            self.end(LOST, "the position of what was written cannot be learned")
        self._has_retried = False
        data, self._ready_data = self._ready_data or b"", None
        self._outlet.write(data)
        self._outlet.flush()
        if link is not None and self._state.is_idle:
            # What it reported on a replica may have pinned it; it belongs to the primary then.
            link.was_stateful = link.was_stateful or (self.is_replica and self._state.is_pinned)
            if self.is_replica or not self._state.is_pinned:
                self._detach(link)
        self._wake()

    def _repeat(self) -> None:
        self.again, self._first = self._first, None
        self._outlet.discard()
        self._is_refused = self._is_failed = self.awaits = self.is_open = False
        self._statements.failed()
        self._state.forget()
        self._parts.usage.repeated += 1
        if self.link is not None:
            self._detach(self.link)
        self._wake()

    def _detach(self, link: ServerLink) -> None:
        self.link = None
        if link.transport is not None and not link.transport.is_closing():
            link.transport.resume_reading()
        self._parts.servers.release(link)
