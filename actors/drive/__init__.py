"""A driver plans a run, owns its work items, commits their results, writes the artefact and assesses it."""
