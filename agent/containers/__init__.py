"""Containers: bundles, crun, the processes in them and their streams."""
