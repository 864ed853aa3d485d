"""Rendering Jinja templates that nobody vouches for, in bounded time and memory."""
