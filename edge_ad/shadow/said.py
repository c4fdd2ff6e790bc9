"""What a candidate says of a part."""

from __future__ import annotations

import msgspec


class Said(msgspec.Struct, frozen=True):
    """The verdict; `error`: why there is none. Of the first answer, which comes when it is ready, only
    that counts."""

    verdict: str = ""
    reason: str = ""
    score: float | None = None
    threshold: float | None = None
    error: str = ""
