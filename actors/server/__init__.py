"""The parameter server: its shards, their checkpoints, and their Ray actors."""
