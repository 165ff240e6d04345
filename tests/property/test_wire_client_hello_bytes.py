"""The ClientHello: no bytes crash the reader, and it never asks for what it has."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from onetrip.errors import ProtocolError
from onetrip.wire.client_hello import MAX_HELLO_SIZE, read_client_hello


@given(
    st.sampled_from([b"", b"\x16\x03\x01", b"\x16\x03\x01\x00\x60\x01\x00\x00\x5c"]), st.binary()
)
def test_any_bytes_give_a_hello_an_error_or_a_wait(start, rest):
    data = start + rest
    try:
        found = read_client_hello(data)
    except ProtocolError:
        return
    if isinstance(found, int):
        assert len(data) < found <= MAX_HELLO_SIZE
