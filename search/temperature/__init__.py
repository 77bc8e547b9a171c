"""The temperature search."""
