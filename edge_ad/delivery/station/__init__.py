"""The station at the reject gate: it rejects whatever has no PASS of its own in time.

`tracker` decides, without any input or output; `log` keeps what happened; `inputs` and `outputs` are the
plug-ins to the line; `run` puts them together. A quality function, not a safety function.
"""
