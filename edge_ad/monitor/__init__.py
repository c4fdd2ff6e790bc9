"""Whether the inspection itself is still what was calibrated: it warns, and changes no threshold.

looks.py       what a picture looks like as a whole: grey, focus, where things lie
levels.py      how far a part lies from the good ones at each level of the network
reference.py   where a value lies among those of the good parts
cusum.py       when a statistic has drifted, with a known rate of false alarms
rejects.py     rejects in a row, and too many of them
watch.py       all of it beside a running inspection
"""
