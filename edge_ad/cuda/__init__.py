"""What all CUDA kernels have in common: their sources, their compilers, the binaries to load.

`sources` lists the kernels, `nvcc` and `nvrtc` compile them, `build` makes the two sets of binaries that
the package ships, and `binaries` chooses between them by the driver's version. Only `build` and the
compilers need anything besides this package; nothing here needs a GPU.
"""
