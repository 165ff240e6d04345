"""What the bodies of rows say: strict structs, decoded with their bounds.

A row may come from a peer or from a file of an older version; one that cannot be read is left out
by the reader (`release/catalog`) and stays as it is.
"""

from __future__ import annotations

import re
from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta, Struct, field

from onetrip.errors import Kind, OnetripError
from onetrip.model.resource import Resource

MAX_INSTANCES = 1000
"""Instances of a deployment in one region."""

ID = re.compile(r"[0-9a-f]{10}")
"""Name of a deployment: the start of the hash of what it is made of."""

DIGEST = re.compile(r"[0-9a-f]{64}")
"""Name of a bundle of files: the SHA-256 of its bytes."""

Ratio = Annotated[float, Meta(ge=0, le=1)]
Name = Annotated[str, Meta(max_length=64)]
Text = Annotated[str, Meta(max_length=512)]
Address = Annotated[str, Meta(min_length=1, max_length=300)]
Number = Annotated[int, Meta(ge=0, le=2**53)]

T = TypeVar("T", bound=Struct)


class Record(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Base of every body."""


class ProjectRecord(Record, frozen=True):
    """A project that was made at run time."""

    created_by: Name = ""


class Content(Record, frozen=True):
    """What a deployment is made of; its name is the hash of this.

    Attributes:
        branch: of the source code it was made from, "" when not told.
        commit, message: of the source code, for people.
        compatibility_date: day (ISO 8601) whose behaviour it was made for.
        instances: addresses by region.
        health_path: None takes the environment's.
        assets: name of a bundle of files that every edge sends itself, "" for none.
    """

    environment: Name
    compatibility_date: Annotated[str, Meta(pattern=r"^\d{4}-\d{2}-\d{2}$")]
    branch: Annotated[str, Meta(max_length=255)] = ""
    commit: Name = ""
    message: Text = ""
    instances: Annotated[
        dict[Name, Annotated[list[Address], Meta(max_length=MAX_INSTANCES)]], Meta(max_length=400)
    ] = field(default_factory=dict)
    protocol: Annotated[str, Meta(pattern="^(http1|h2|auto)$")] = "http1"
    health_path: Annotated[str, Meta(pattern="^/[!-~]*$", max_length=1024)] | None = None
    capacity: Annotated[int, Meta(ge=1, le=1_000_000)] | None = None
    assets: Annotated[str, Meta(pattern="^([0-9a-f]{64})?$")] = ""


class DeploymentRecord(Record, frozen=True):
    """A deployment; it never changes.

    Attributes:
        number: grows with the deployments of a project.
        promotes: it shall serve its environment once it can.
    """

    content: Content
    number: Number
    promotes: bool = True
    created_by: Name = ""


class CheckRecord(Record, frozen=True):
    """Whether a deployment can serve in a region, as that region's node found."""

    is_ready: bool
    detail: Text = ""


class ReleaseRecord(Record, frozen=True):
    """Which deployment serves an environment.

    Attributes:
        current: name of the deployment; "" is what the configuration says.
        candidate: name of the one that gets a share of the requests, or "".
        share: of the candidate.
        number: deployments up to this one are not promoted by themselves any more.
        before: what was current before, the latest first.
        base: digest of what the configuration says; the row is void against another.
    """

    current: Name = ""
    candidate: Name = ""
    share: Ratio = 0.0
    number: Number = 0
    before: Annotated[list[Name], Meta(max_length=50)] = field(default_factory=list)
    base: Name = ""


class BindingRecord(Record, frozen=True):
    """A binding of an environment.

    Attributes:
        backend: its name; "" takes the configured binding away.
        base: backend that the configuration binds; the row is void against another.
    """

    backend: Name = ""
    base: Name = ""


class DomainRecord(Record, frozen=True):
    """A host name that people use for an environment."""

    project: Name
    environment: Name


_ENCODER = msgspec.json.Encoder(order="sorted")


def encode(record: Record) -> bytes:
    """Return a record as a body; equal records give equal bytes."""
    return _ENCODER.encode(record)


def decode(row: Resource, want: type[T]) -> T:
    """Return what a row says.

    Raises:
        OnetripError: kind MALFORMED; its body is no `want`.
    """
    try:
        return msgspec.json.decode(row.body, type=want)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise OnetripError(
            f"{row.key.kind.value} {row.key.name!r} of {row.key.project!r} cannot be read: {error}",
            kind=Kind.MALFORMED,
        ) from error
