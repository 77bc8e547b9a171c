"""Commands around clusters and machines: submit, attach, pull, cluster check, doctor."""
