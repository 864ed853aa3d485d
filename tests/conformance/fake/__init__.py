"""A server that does everything right with a model that is a script, unless it is told to do one thing wrong."""
