"""What one client of the HTTP port may use."""

from __future__ import annotations

from dataclasses import dataclass, field

from radserve._checks import invalid
from radserve.dicom_io.dicomweb.multipart import MultipartLimits


@dataclass(frozen=True, slots=True)
class WebLimits:
    """Bytes, seconds and counts.

    A body may take `body_seconds`, and one more second for each `body_bytes_per_second` of it; time in which the server
    is busy with what came does not count. `stall_seconds`: how long a client may leave an answer unread.
    """

    request_bytes: int = 8 << 30
    json_bytes: int = 4096
    head_bytes: int = 32 << 10
    head_seconds: float = 10.0
    body_seconds: float = 30.0
    body_bytes_per_second: int = 16 << 10
    stall_seconds: float = 60.0
    drain_bytes: int = 1 << 20
    drain_seconds: float = 2.0
    connections: int = 256
    query_fields: int = 64
    frames: int = 1024
    multipart: MultipartLimits = field(default_factory=MultipartLimits)

    def __post_init__(self) -> None:
        for name in ("request_bytes", "head_seconds", "body_seconds", "body_bytes_per_second", "stall_seconds"):
            if not getattr(self, name) > 0:
                raise invalid(f"WebLimits.{name}", getattr(self, name), "above 0")
