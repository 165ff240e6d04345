"""What every entry of the configuration file is made of: strict structs and bounded values.

Times are seconds, sizes bytes, ratios 0-1.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

Ratio = Annotated[float, Meta(ge=0, le=1)]
ControlRatio = Annotated[float, Meta(ge=0, le=0.5)]
Interval = Annotated[float, Meta(ge=0.05, le=3600)]
Timeout = Annotated[float, Meta(gt=0, le=86400)]
Count = Annotated[int, Meta(ge=1, le=10_000_000)]
Text = Annotated[str, Meta(max_length=256)]
Path = Annotated[str, Meta(pattern="^/[!-~]*$", max_length=1024)]


class Strict(Struct, forbid_unknown_fields=True, kw_only=True):
    """Base of every entry: unknown keys are refused."""
