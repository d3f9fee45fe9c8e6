"""Stream features (RFC 6120 4.3.2) as values in an ordered list; our order decides, never the server's."""

from pcj.protocol.features.feature import Fact, Feature, Progress, negotiate_features

__all__ = ["Fact", "Feature", "Progress", "negotiate_features"]
