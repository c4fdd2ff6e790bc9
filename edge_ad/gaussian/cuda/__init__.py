"""Mahalanobis distances on an NVIDIA GPU: the kernels of `mahalanobis.cu`, and what they are given.

Nothing here needs a GPU or a driver: a plan is arithmetic, and packing moves numbers. `layout` says
where everything lies in memory.
"""
