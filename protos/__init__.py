"""The two generations of the agent's API: `protos.kata1` (gRPC) and `protos.kata2` (ttrpc)."""
