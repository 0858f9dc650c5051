"""Students as tools of a language-model agent: an MCP server."""
