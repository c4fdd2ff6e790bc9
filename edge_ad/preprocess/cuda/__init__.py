"""Camera bytes to network input on an NVIDIA GPU: kernels of `preprocess.cu`, and what they are given.

Nothing here needs a GPU or a driver: a plan is arithmetic. `plan.plan_preprocess` says which buffers
there are, what is in them, and which launches make a part's rows; `layout` says where everything lies.
"""
