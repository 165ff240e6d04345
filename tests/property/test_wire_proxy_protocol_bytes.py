"""PROXY headers: no bytes crash the reader, and a valid one survives any surroundings."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from onetrip.errors import ProtocolError
from onetrip.wire.proxy_protocol import read_header

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
PORTS = st.integers(0, 65535)


@given(
    st.sampled_from([b"", b"PROXY ", b"PROXY TCP4 ", SIGNATURE, SIGNATURE + b"\x21\x11"]),
    st.binary(),
)
def test_any_bytes_give_a_header_an_error_or_a_wait(start, rest):
    data = start + rest
    try:
        found = read_header(data)
    except ProtocolError:
        return
    if found is not None:
        size, _ = found
        assert 0 < size <= len(data)
        # What follows a header never changes what it says.
        assert read_header(data[:size]) == found


@given(st.ip_addresses(), PORTS, PORTS, st.binary(max_size=20))
def test_line_gives_back_its_address(address, source, target, rest):
    line = f"PROXY TCP{address.version} {address} {address} {source} {target}\r\n".encode()
    found = read_header(line + rest)
    assert found is not None
    size, text = found
    mapped = getattr(address, "ipv4_mapped", None)
    assert (size, text) == (len(line), str(mapped or address))
