"""UIDs derived from what they name: the same input and the same pack give the same objects on every run."""

from __future__ import annotations

import hashlib
import uuid


def derive_uid(*parts: str) -> str:
    """Return a UID under the UUID root "2.25." (PS3.5 B.2) made from the SHA-256 of `parts`, in their order.

    Pure; the bounds of the parts count: ("a", "bc") and ("ab", "c") differ. At most 44 characters. The value has the
    version and variant bits of a custom UUID (version 8, RFC 9562 section 5.8).
    """
    digest = hashlib.sha256()
    for part in parts:
        encoded = part.encode()
        digest.update(len(encoded).to_bytes(8, "big"))
        digest.update(encoded)
    number = int.from_bytes(digest.digest()[:16], "big")
    number &= ~((0xF << 76) | (0x3 << 62))
    number |= (0x8 << 76) | (0x2 << 62)
    return f"2.25.{uuid.UUID(int=number).int}"
