"""The HTTP/2 protocol itself: bytes in, events out, and back. The only module that imports `h2`.

A thin shell around the library that turns its events and errors into ours, and sets the bounds it
leaves open: what it remembers of closed streams, and the compression state a client may ask for.

Headers are not validated here but in `wire.http2`: the library would end the connection, and with
it the streams of other users behind the same proxy, for one malformed request.
"""

from __future__ import annotations

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    DataReceived,
    Event,
    RemoteSettingsChanged,
    RequestReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
)
from h2.exceptions import H2Error
from h2.settings import SettingCodes, Settings

from onetrip.proxy.settings import ProxySettings
from onetrip.wire.http1 import Fields
from onetrip.wire.http2 import (
    BodyArrived,
    Code,
    FloodError,
    Http2Event,
    RequestEnded,
    RequestOpened,
    StreamLost,
    WindowGrew,
)

MAX_STREAMS = 128
"""Requests of one connection at once; browsers open up to 100 before they know the limit."""

CONNECTION_WINDOW = 1024 * 1024
"""Request body bytes of all streams together that a client may send ahead."""

LEAST_WINDOW = 16 * 1024
"""Least request body bytes that a client may send ahead on one stream: one frame."""

TABLE_SIZE = 4096
"""Header compression state kept for a client, bytes, however much it offers to keep."""

_DEFAULT_WINDOW = 65535  # RFC 9113 section 6.9.2


class _Connection(H2Connection):
    MAX_CLOSED_STREAMS = 1024  # remembered per connection; the library's 65536 take megabytes


class Http2Codec:
    """The server's side of one connection."""

    def __init__(self, settings: ProxySettings) -> None:
        config = H2Configuration(
            client_side=False, validate_inbound_headers=False, normalize_inbound_headers=False
        )
        self._h2 = h2 = _Connection(config)
        header_list = 2 * settings.head_limit  # beyond it the connection ends, below it 431
        h2.local_settings = Settings(
            client=False,
            initial_values={
                SettingCodes.MAX_CONCURRENT_STREAMS: MAX_STREAMS,
                SettingCodes.INITIAL_WINDOW_SIZE: max(settings.buffer_size, LEAST_WINDOW),
                SettingCodes.MAX_HEADER_LIST_SIZE: header_list,
                SettingCodes.HEADER_TABLE_SIZE: TABLE_SIZE,
            },
        )
        h2.decoder.max_header_list_size = header_list
        h2.initiate_connection()
        h2.increment_flow_control_window(CONNECTION_WINDOW - _DEFAULT_WINDOW)

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
            raise FloodError(f"HTTP/2 client: {type(error).__name__}", code) from error

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
        # A client may shrink windows below what is used already (RFC 9113 section 6.9.2).
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
        """Let the client send `size` more body bytes."""
        self._h2.acknowledge_received_data(size, stream)

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
        if isinstance(event, RequestReceived):
            ends = event.stream_ended is not None
            return RequestOpened(event.stream_id, _fields(event.headers), ends)
        if isinstance(event, TrailersReceived):
            return RequestEnded(event.stream_id, _fields(event.headers))
        if isinstance(event, StreamEnded):
            return RequestEnded(event.stream_id, [])
        if isinstance(event, StreamReset):
            return StreamLost(event.stream_id)
        if isinstance(event, RemoteSettingsChanged):
            if SettingCodes.HEADER_TABLE_SIZE in event.changed_settings:
                encoder = self._h2.encoder
                encoder.header_table_size = min(encoder.header_table_size, TABLE_SIZE)
        return WindowGrew()


def _fields(headers: object) -> Fields:
    return [(bytes(name), bytes(value)) for name, value in headers]  # type: ignore[attr-defined]
