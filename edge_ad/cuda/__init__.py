"""CUDA without pictures: the GPU itself, and what all kernels have in common.

`driver` finds NVIDIA's driver and reads a card's `facts`, by no library but the driver's own. `device`,
`memory`, `stream` and `graph` own a GPU; pycuda and cuda.bindings are loaded where one is opened, never
at import. `sources` lists the kernels, `nvcc` and `nvrtc` compile them, `build` makes the two sets of
binaries that the package ships, and `binaries` chooses between them by the driver's version; none of
these needs a GPU.
"""
