"""Child processes: the only place in the agent that starts and collects them."""
