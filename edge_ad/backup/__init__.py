"""A whole station in one file: `write_backup` makes it beside the running daemon, `restore_backup` puts
it on a spare PC, all of it or nothing."""

from __future__ import annotations

from edge_ad.backup.restore import Restored, restore_backup
from edge_ad.backup.write import Written, write_backup

__all__ = ["Restored", "Written", "restore_backup", "write_backup"]
