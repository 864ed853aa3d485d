"""Speculation: several tokens of a stream in one batch, proposed cheaply and chosen by the model as without."""
