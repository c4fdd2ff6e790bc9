"""The GPU itself: its driver, who owns it, its memory, kernels and graphs. Knows nothing of pictures.

pycuda and cuda.bindings are loaded where a device is opened, never at import.
"""
