from __future__ import annotations

import pytest

from onetrip.wire.codings import choose_coding
from onetrip.wire.media_types import UNKNOWN, media_type_of


@pytest.mark.parametrize(
    ("accept", "available", "expected"),
    [
        (None, {b"br"}, b""),
        (b"", {b"br"}, b""),
        (b"gzip", set(), b""),
        (b"gzip", {b"br"}, b""),
        (b"gzip, br", {b"br", b"gzip"}, b"br"),
        (b"gzip, br, zstd", {b"zstd", b"gzip"}, b"zstd"),
        (b"GZip", {b"gzip"}, b"gzip"),
        (b"x-gzip", {b"gzip"}, b"gzip"),
        (b"gzip;q=1, br;q=0.5", {b"br", b"gzip"}, b"gzip"),
        (b"br;q=0, gzip", {b"br", b"gzip"}, b"gzip"),
        (b"br ; q=0.000", {b"br"}, b""),
        (b"*", {b"gzip"}, b"gzip"),
        (b"*;q=0", {b"gzip"}, b""),
        (b"br;q=0, *", {b"br", b"gzip"}, b"gzip"),
        (b"identity, gzip;q=0.5", {b"gzip"}, b""),
        (b"identity;q=0.5, gzip", {b"gzip"}, b"gzip"),
        (b"identity;q=0", {b"gzip"}, b""),
        (b"gzip;q=2", {b"gzip"}, b""),
        (b"gzip;q=nan", {b"gzip"}, b""),
        (b"gzip;level=9", {b"gzip"}, b""),
        (b",".join([b"a"] * 40 + [b"gzip"]), {b"gzip"}, b""),
    ],
)
def test_choice_of_the_coding(accept, available, expected):
    assert choose_coding(accept, available) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("index.html", b"text/html; charset=utf-8"),
        ("app.3f2a.JS", b"text/javascript; charset=utf-8"),
        ("photo.avif", b"image/avif"),
        ("font.woff2", b"font/woff2"),
        ("LICENSE", UNKNOWN),
        ("html", UNKNOWN),
        ("a.unknown", UNKNOWN),
    ],
)
def test_media_type(name, expected):
    assert media_type_of(name) == expected
