"""An OpenFeature provider whose flags are the placement toggles of a onetrip node's projects."""

from onetrip_openfeature.provider import OnetripProvider

__all__ = ["OnetripProvider"]
