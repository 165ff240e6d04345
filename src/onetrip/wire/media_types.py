"""Media types of files by the ending of their name: a fixed table.

The machine's own table (`mimetypes`) differs between systems, and nodes of one cluster must agree.

Source: the IANA registry of media types; for scripts RFC 9239.
"""

from __future__ import annotations

UNKNOWN = b"application/octet-stream"
"""Browsers download it, and do not guess (`X-Content-Type-Options: nosniff`)."""

_TEXT = "; charset=utf-8"
_TABLE = {
    f"text/html{_TEXT}": "html htm",
    f"text/css{_TEXT}": "css",
    f"text/javascript{_TEXT}": "js mjs cjs",
    f"text/plain{_TEXT}": "txt text log",
    f"text/markdown{_TEXT}": "md",
    f"text/csv{_TEXT}": "csv",
    f"text/vtt{_TEXT}": "vtt",
    f"text/calendar{_TEXT}": "ics",
    "application/json": "json map",
    "application/ld+json": "jsonld",
    "application/manifest+json": "webmanifest",
    "application/geo+json": "geojson",
    "application/xml": "xml xsl",
    "application/rss+xml": "rss",
    "application/atom+xml": "atom",
    "application/xhtml+xml": "xhtml",
    "application/wasm": "wasm",
    "application/pdf": "pdf",
    "application/zip": "zip",
    "application/gzip": "gz tgz",
    "application/zstd": "zst",
    "application/x-tar": "tar",
    "application/x-7z-compressed": "7z",
    "application/rtf": "rtf",
    "application/epub+zip": "epub",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": "docx",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": "xlsx",
    "application/vnd.openxmlformats-officedocument.presentationml.presentation": "pptx",
    "image/svg+xml": "svg",
    "image/png": "png",
    "image/apng": "apng",
    "image/jpeg": "jpg jpeg",
    "image/gif": "gif",
    "image/webp": "webp",
    "image/avif": "avif",
    "image/jxl": "jxl",
    "image/bmp": "bmp",
    "image/tiff": "tif tiff",
    "image/vnd.microsoft.icon": "ico",
    "font/woff": "woff",
    "font/woff2": "woff2",
    "font/ttf": "ttf",
    "font/otf": "otf",
    "application/vnd.ms-fontobject": "eot",
    "audio/mpeg": "mp3",
    "audio/mp4": "m4a",
    "audio/aac": "aac",
    "audio/ogg": "ogg oga opus",
    "audio/flac": "flac",
    "audio/wav": "wav",
    "video/mp4": "mp4 m4v",
    "video/webm": "webm",
    "video/ogg": "ogv",
    "video/quicktime": "mov",
    "video/mp2t": "ts",
    "application/vnd.apple.mpegurl": "m3u8",
    "application/dash+xml": "mpd",
}
_TYPES = {
    ending: media_type.encode()
    for media_type, endings in _TABLE.items()
    for ending in endings.split()
}


def media_type_of(name: str) -> bytes:
    """Return the value of Content-Type for a file of this name."""
    return _TYPES.get(name.rpartition(".")[2].lower(), UNKNOWN) if "." in name else UNKNOWN
