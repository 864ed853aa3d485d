"""One question to two models: asking both, and comparing what they say."""
