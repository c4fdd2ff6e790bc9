"""A line in processes, of which daemon and station are killed again and again; nothing may be lost.

    source    announces parts to the daemon's camera and to the station; never killed        source.py
    daemon    the real `edge-ad run`, killed                                                 victims.py
    station   the real `edge-ad station`, killed                                             victims.py
    gate      rejects unless it holds a PASS that is live; never killed                      gate.py
    checker   compares what source and gate saw with outbox and station's log, afterwards    checker.py

The source drops and doubles triggers on one side only. Which parts are bad, what is dropped and doubled,
when and where who is killed follows from one seed.
"""
