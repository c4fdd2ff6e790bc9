"""A candidate bundle that judges beside the one in use, on the line's own parts, and decides nothing.

child.py    a process of its own, which computes only while nothing else wants to
said.py     what it says of a part
beside.py   what the daemon's threads see of it
log.py      what both said of a part, on disk, and how far they agree
"""
