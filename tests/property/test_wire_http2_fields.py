"""No header list of HTTP/2 can make more, fewer or other fields of HTTP/1.1 than it names."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from onetrip.errors import ProtocolError
from onetrip.wire.http1 import Limits
from onetrip.wire.http1_head import HeadReader
from onetrip.wire.http2 import PREFACE, FloodError, FrameMeter, read_request

NASTY = st.binary(max_size=12) | st.sampled_from(
    [b"a\r\nb: c", b"\r\n\r\nGET / HTTP/1.1", b"a\nb", b" a", b"host", b"content-length", b"5"]
)
FIELDS = st.lists(st.tuples(NASTY, NASTY), max_size=6)


@given(FIELDS, NASTY, NASTY, NASTY, st.booleans())
def test_fields_survive_as_they_are_or_are_refused(fields, method, path, authority, has_body):
    headers = [
        (b":method", method),
        (b":scheme", b"https"),
        (b":authority", authority),
        (b":path", b"/" + path),
        *fields,
    ]
    try:
        head = read_request(headers, has_body=has_body, reader=HeadReader(Limits()))
    except ProtocolError:
        return
    assert (head.method, head.target, head.authority) == (method, b"/" + path, authority)
    kept = [field for field in fields if field[0] not in (b"host", b"cookie")]
    made = [f for f in head.meta.fields if f[0] not in (b"host", b"cookie", b"transfer-encoding")]
    assert made == kept
    assert [value for name, value in head.meta.fields if name == b"host"] == [authority]


@given(st.binary(max_size=200), st.integers(0, 200))
def test_meter_never_depends_on_the_split(data, at):
    counts = []
    for parts in ([data], [data[:at], data[at:]]):
        meter = FrameMeter(Limits())
        try:
            for part in [PREFACE, *parts]:
                meter.feed(part)
        except FloodError as error:
            counts.append(error.code)
        else:
            counts.append((meter.cheap, meter.resets, meter.loads))
    assert counts[0] == counts[1]
