"""`python -m edge_ad` is `edge-ad`."""

from __future__ import annotations

from edge_ad.cli.main import main

main()
