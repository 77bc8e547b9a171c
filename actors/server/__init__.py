"""The parameter server: its shards, where they live, and their checkpoints."""
