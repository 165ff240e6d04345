"""Messages of a byte stream: each behind its length, four bytes, big-endian.

For the processes of one node, over a socket that nobody else can reach. Lengths are bounded all
the same: a bound turns a broken peer into an error instead of a node without memory.
"""

from __future__ import annotations

from onetrip.errors import LimitError

HEADER_SIZE = 4


def frame(payload: bytes, limit: int) -> bytes:
    """Return a message as it is sent.

    Raises:
        LimitError: the payload is larger than `limit`, bytes.
    """
    _check(len(payload), limit)
    return len(payload).to_bytes(HEADER_SIZE, "big") + payload


class FrameReader:
    """Cuts what arrives into messages.

    Args:
        limit: largest payload, bytes.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._received = bytearray()

    def receive(self, data: bytes) -> list[bytes]:
        """Take received bytes and return the payloads that are complete, in order.

        Raises:
            LimitError: a length exceeds the limit; the stream cannot be read any further.
        """
        received, found, start = self._received, [], 0
        received += data
        while len(received) - start >= HEADER_SIZE:
            size = int.from_bytes(received[start : start + HEADER_SIZE], "big")
            _check(size, self._limit)
            end = start + HEADER_SIZE + size
            if len(received) < end:
                break
            found.append(bytes(received[start + HEADER_SIZE : end]))
            start = end
        del received[:start]
        return found


def _check(size: int, limit: int) -> None:
    if size > limit:
        raise LimitError(f"message of {size} bytes exceeds limit of {limit}")
