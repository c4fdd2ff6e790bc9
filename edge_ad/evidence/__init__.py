"""What the daemon saw of parts that did not pass: their pictures and their verdicts.

    STATE/evidence/<product>/<number>-<key>/<camera>.png    the frame as decoded, lossless
    STATE/evidence/<product>/<number>-<key>/verdict.json    what was said of the part, and by what

Numbers grow from entry to entry over all products and starts, so that the oldest entry is the one with
the lowest number, whatever the wall clock does. An entry is written beside its place and renamed into
it; names that begin with a dot are of entries half written or half removed, and are nobody's.
"""

from __future__ import annotations
