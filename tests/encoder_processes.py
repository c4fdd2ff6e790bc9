"""The processes that encode evidence for this one, and patience with them."""

from __future__ import annotations

from contextlib import suppress

import psutil
import pytest

from edge_ad.evidence import encode

PATIENCE_S = 120.0  # they compute only while nothing else wants to


def encoders() -> list[psutil.Process]:
    """Those that run."""
    found = []
    for one in psutil.Process().children():
        with suppress(psutil.Error):
            if encode.MODULE in one.cmdline():
                found.append(one)
    return found


@pytest.fixture(autouse=True)
def patient_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not about time must not fail on a busy machine."""
    monkeypatch.setattr(encode, "ANSWER_S", PATIENCE_S)
    monkeypatch.setattr(encode, "START_S", PATIENCE_S)
