"""Aravis without its Python bindings: cameras of GigE Vision and USB3 Vision."""
