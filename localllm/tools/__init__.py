"""Tools that models may call: MCP servers of the user's, asked one call at a time."""
