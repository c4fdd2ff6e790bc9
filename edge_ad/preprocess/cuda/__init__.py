"""Frames to network input on an NVIDIA GPU: kernels of `preprocess.cu`, and what they are given.

The daemon feeds frames that their cameras' threads have converted to grey or BGR, as that is what
evidence and collection keep. The kernel that converts pixel formats (`convert_pixels`, with `faults`
for samples of too many bits) is here and tested bit by bit, but nothing that runs gives it work yet;
nor does anything ask for fp16 (`halves`).

Nothing here needs a GPU or a driver: a plan is arithmetic. `plan.plan_preprocess` says which buffers
there are, what is in them, and which launches make a part's rows; `layout` says where everything lies.
"""
