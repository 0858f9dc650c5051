"""Any agent as a file of another world, held against the agent that it was written from."""
