"""What the agent does only as the first process of a machine."""
