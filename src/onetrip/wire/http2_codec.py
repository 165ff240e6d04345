"""The HTTP/2 protocol itself: bytes in, events out, and back. The only module that imports `h2`.

A thin shell around the library that turns its events and errors into ours, and sets the bounds it
leaves open: what it remembers of closed streams, and the compression state a peer may ask for.

Headers are not validated here but in `http2` and `http2_upstream`: the library would end the
connection, and with it the streams of other users behind the same proxy, for one malformed message.
"""

from __future__ import annotations

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    InformationalResponseReceived,
    PingAckReceived,
    RemoteSettingsChanged,
    RequestReceived,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
)
from h2.exceptions import H2Error
from h2.settings import SettingCodes, Settings
from hpack import HeaderTuple, NeverIndexedHeaderTuple

from onetrip.wire.http1 import Fields
from onetrip.wire.http2 import (
    BodyArrived,
    Code,
    FloodError,
    HeadArrived,
    Http2Event,
    MessageEnded,
    PeerLeaves,
    PingAnswered,
    StreamLost,
    WindowGrew,
)

MAX_STREAMS = 128
"""Requests of one client connection at once; browsers open up to 100 before they know the limit."""

CONNECTION_WINDOW = 1024 * 1024
"""Request body bytes of all streams together that a client may send ahead."""

WHOLE_WINDOW = 2**31 - 1
"""The largest window there is (RFC 9113 section 6.9.1): streams then bound themselves."""

LEAST_WINDOW = 16 * 1024
"""Least body bytes that a peer may send ahead on one stream: one frame."""

TABLE_SIZE = 4096
"""Header compression state kept for a peer, bytes, however much it offers to keep."""

ASSUMED_STREAMS = 100
"""Streams opened before a server has said how many it takes; RFC 9113 section 6.5.2 asks servers
not to allow fewer."""

_LAST_STREAM = 2**30
"""Stream identifiers used of one connection; half of what there are (section 5.1.1)."""

_DEFAULT_WINDOW = 65535  # RFC 9113 section 6.9.2

_UNINDEXED = frozenset(
    b":path authorization cookie proxy-authorization x-request-id traceparent tracestate "
    b"onetrip-hop content-length".split()
)
"""Kept out of the shared compression state: secrets of one user beside the input of another (RFC
7541 section 7.1), and values that never come again."""


class _Connection(H2Connection):
    MAX_CLOSED_STREAMS = 1024  # remembered per connection; the library's 65536 take megabytes

    def _receive_goaway_frame(self, frame):  # type: ignore[no-untyped-def]
        # The library takes any GOAWAY for the end; after a polite one answers still come.
        event = ConnectionTerminated()
        event.error_code = frame.error_code
        event.last_stream_id = frame.last_stream_id
        return [], [event]

    def _begin_new_stream(self, stream_id, allowed_ids):  # type: ignore[no-untyped-def]
        stream = super()._begin_new_stream(stream_id, allowed_ids)
        if self.config.client_side:
            # A length that is wrong is an error of its response, not of all that share the link.
            stream._initialize_content_length = _ignore  # type: ignore[method-assign]
        return stream


def _ignore(headers: object) -> None:
    pass


class Codec:
    """One side of one connection.

    Args:
        is_client: it opens streams.
        window: body bytes that the peer may send ahead on one stream.
        connection_window: and on all of them together.
        head_limit: largest head accepted, bytes; up to twice that is read before it is refused.
        settings: further settings to announce.
    """

    def __init__(
        self,
        *,
        is_client: bool,
        window: int,
        connection_window: int,
        head_limit: int,
        settings: dict[SettingCodes, int],
    ) -> None:
        config = H2Configuration(
            client_side=is_client,
            validate_inbound_headers=False,
            normalize_inbound_headers=False,
            validate_outbound_headers=not is_client,
            normalize_outbound_headers=not is_client,
        )
        self._h2 = h2 = _Connection(config)
        self.window = max(window, LEAST_WINDOW)
        values: dict[SettingCodes, int] = {
            SettingCodes.INITIAL_WINDOW_SIZE: self.window,
            SettingCodes.MAX_HEADER_LIST_SIZE: 2 * head_limit,
            SettingCodes.HEADER_TABLE_SIZE: TABLE_SIZE,
            **settings,
        }
        h2.local_settings = Settings(client=is_client, initial_values=values)
        h2.decoder.max_header_list_size = 2 * head_limit
        h2.initiate_connection()
        h2.increment_flow_control_window(connection_window - _DEFAULT_WINDOW)

    def receive(self, data: bytes) -> list[Http2Event]:
        """Return what `data` makes happen.

        Raises:
            FloodError: the connection has to end, with the error's code.
        """
        try:
            events = self._h2.receive_data(data)
            return [made for event in events if (made := self._translate(event)) is not None]
        except H2Error as error:
            code = Code.of(int(getattr(error, "error_code", Code.PROTOCOL_ERROR)))
            raise FloodError(f"HTTP/2 peer: {type(error).__name__}", code) from error

    def take_output(self) -> bytes:
        """Return the frames to send."""
        return self._h2.data_to_send()

    def drop_output(self) -> None:
        """Forget the frames to send."""
        self._h2.clear_outbound_data_buffer()

    def room(self, stream: int) -> int:
        """Return how many body bytes one frame of a stream may carry now."""
        try:
            window = self._h2.local_flow_control_window(stream)
        except H2Error:
            return 0
        # A peer may shrink windows below what is used already (RFC 9113 section 6.9.2).
        return max(0, min(window, self._h2.max_outbound_frame_size))

    def send_head(self, stream: int, headers: Fields, *, ends: bool) -> bool:
        """Send a header list; False when that is not possible (any more)."""
        try:
            self._h2.send_headers(stream, headers, end_stream=ends)
        except H2Error:
            return False
        return True

    def send_body(self, stream: int, data: bytes, *, ends: bool) -> bool:
        """Send body bytes, no more than `room`; False when the stream has ended."""
        try:
            self._h2.send_data(stream, data, end_stream=ends)
        except H2Error:
            return False
        return True

    def acknowledge(self, stream: int, size: int) -> None:
        """Let the peer send `size` more body bytes."""
        self._h2.acknowledge_received_data(size, stream)

    def grow(self, stream: int, size: int) -> bool:
        """Make the window of a stream larger by `size` bytes; False when the stream has ended."""
        try:
            self._h2.increment_flow_control_window(size, stream)
        except (H2Error, KeyError):
            return False
        return True

    def reset(self, stream: int, code: Code) -> bool:
        """End a stream; False when it had ended on both sides already."""
        try:
            self._h2.reset_stream(stream, code)
        except H2Error:
            return False
        return True

    def _translate(self, event: Event) -> Http2Event | None:
        if isinstance(event, DataReceived):
            return BodyArrived(event.stream_id, event.data, event.flow_controlled_length)
        if isinstance(event, RequestReceived | ResponseReceived):
            ends = event.stream_ended is not None
            return HeadArrived(event.stream_id, _fields(event.headers), ends)
        if isinstance(event, InformationalResponseReceived):
            return HeadArrived(event.stream_id, _fields(event.headers), False)
        if isinstance(event, TrailersReceived):
            return MessageEnded(event.stream_id, _fields(event.headers))
        if isinstance(event, StreamEnded):
            return MessageEnded(event.stream_id, [])
        if isinstance(event, StreamReset):
            return StreamLost(event.stream_id, Code.of(int(event.error_code or 0)))
        if isinstance(event, ConnectionTerminated):
            last = event.last_stream_id or 0
            return PeerLeaves(last, Code.of(int(event.error_code or 0)))
        if isinstance(event, PingAckReceived):
            return PingAnswered()
        if isinstance(event, RemoteSettingsChanged):
            self._note_settings(event)
        return WindowGrew()

    def _note_settings(self, event: RemoteSettingsChanged) -> None:
        if SettingCodes.HEADER_TABLE_SIZE in event.changed_settings:
            encoder = self._h2.encoder
            encoder.header_table_size = min(encoder.header_table_size, TABLE_SIZE)


class ServerCodec(Codec):
    """The server's side."""

    def __init__(
        self, window: int, head_limit: int, connection_window: int = CONNECTION_WINDOW
    ) -> None:
        super().__init__(
            is_client=False,
            window=window,
            connection_window=connection_window,
            head_limit=head_limit,
            settings={
                SettingCodes.MAX_CONCURRENT_STREAMS: MAX_STREAMS,
                SettingCodes.ENABLE_CONNECT_PROTOCOL: 1,
            },
        )


class ClientCodec(Codec):
    """The client's side.

    Attributes:
        max_streams: how many streams the server takes at once; an assumption before it has said.
        allows_connect: it takes extended CONNECT (RFC 8441).
        is_settled: it has sent its settings.
    """

    def __init__(self, window: int, head_limit: int) -> None:
        self.max_streams = ASSUMED_STREAMS
        self.allows_connect = self.is_settled = False
        super().__init__(
            is_client=True,
            window=window,
            connection_window=WHOLE_WINDOW,
            head_limit=head_limit,
            settings={SettingCodes.ENABLE_PUSH: 0},
        )

    def open(self, headers: Fields, *, ends: bool) -> int:
        """Send a request's header list on a new stream; return its number, 0 if that failed."""
        try:
            stream: int = self._h2.get_next_available_stream_id()
            if stream > _LAST_STREAM:
                return 0
            self._h2.send_headers(stream, [_field(*field) for field in headers], end_stream=ends)
        except H2Error:
            return 0
        return stream

    def ping(self) -> None:
        """Ask whether the server is there; a `PingAnswered` follows if it is."""
        self._h2.ping(bytes(8))

    def _note_settings(self, event: RemoteSettingsChanged) -> None:
        super()._note_settings(event)
        settings = self._h2.remote_settings
        self.is_settled = True
        self.max_streams = int(settings.max_concurrent_streams)
        self.allows_connect = bool(settings.enable_connect_protocol)


def _field(name: bytes, value: bytes) -> HeaderTuple:
    return NeverIndexedHeaderTuple(name, value) if name in _UNINDEXED else HeaderTuple(name, value)


def _fields(headers: object) -> Fields:
    return [(bytes(name), bytes(value)) for name, value in headers]  # type: ignore[attr-defined]
