"""The rank card: how well rankers order architectures whose truth is known."""
