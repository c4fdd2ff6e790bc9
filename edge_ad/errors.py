"""Every error that edge_ad raises on purpose, split by whose fault it is.

    EdgeAdError              exit 1
    ├── CheckFailed          exit 1   a check or gate did not pass: too few parts, a failed qualification
    ├── ConfigError          exit 2   the command line or the station's TOML is wrong
    ├── ArtifactError        exit 3   a bundle, backbone or statistics file is refused
    ├── CaptureError         exit 4   a camera, stream or image cannot be read
    └── DeviceError          exit 5   an engine, a disk or a socket of this machine fails
        └── DeliveryError    exit 5   a message cannot be sent or an endpoint cannot be opened

Messages are one line: what is wrong, where (path, key, address), and what to do about it.
"""

from __future__ import annotations


class EdgeAdError(Exception):
    """Base of all errors that a person can act on; the message is complete without a traceback."""

    exit_code = 1


class CheckFailed(EdgeAdError):
    """A check or gate did not pass."""


class ConfigError(EdgeAdError):
    """The command line or the configuration is wrong."""

    exit_code = 2


class ArtifactError(EdgeAdError):
    """A bundle, backbone or statistics file is damaged or does not belong here."""

    exit_code = 3


class CaptureError(EdgeAdError):
    """A camera, stream or image cannot be read."""

    exit_code = 4


class DeviceError(EdgeAdError):
    """An engine, a disk or a socket of this machine fails."""

    exit_code = 5


class DeliveryError(DeviceError):
    """A message cannot be sent, or an endpoint cannot be opened."""
