"""What the daemon saw of parts: pictures and verdicts of those that did not pass, that passed near the
threshold, and of a sample of the rest. Each of these kinds has a quota of its own.

    STATE/evidence/<product>/<number>-<key>/<camera>.png    the frame as decoded, lossless
    STATE/evidence/<product>/<number>-<key>/<camera>.overlay.jpg    the same under its maps, to look at
    STATE/evidence/<product>/<number>-<key>/verdict.json    what was said of the part, and by what

Numbers grow from entry to entry over all kinds, products and starts, so that the oldest entry is the
one with the lowest number, whatever the wall clock does. An entry is written beside its place and
renamed into it; names that begin with a dot are of entries half written or half removed, and are
nobody's.

Every part's score lies in STATE/scores (`score_log`).
"""

from __future__ import annotations
