"""The paths of each API, a module each: a body in, a job or an answer out."""
