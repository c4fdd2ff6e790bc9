"""GStreamer without its Python bindings: a pipeline, its errors and its frames."""
