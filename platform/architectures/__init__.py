"""Spaces of architectures: what can be drawn, changed, written, read, counted, pictured and trained."""
