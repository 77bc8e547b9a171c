"""What a run leaves behind while it is worked on: commit log, curves, and its copy in a storage."""
