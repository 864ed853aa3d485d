"""The tokens of an answer: what they are, how likely each was, and what could have come instead."""
