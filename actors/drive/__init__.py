"""What a driver does: plan a run, own its work items, commit their results, keep and assess."""
