"""TensorRT: from a backbone's ONNX to an engine of one card, kept in a cache, and the runtime for it.

    graph -> half | quantize -> compare -> build -> cache   on `edge-ad backbone build`, never in `run`
    lookup -> cache -> engine                               in `run`

The first row needs onnx and onnxruntime (`pip install 'edge_ad[build]'`), the second neither.
"""
