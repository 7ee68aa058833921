"""Builds the guest image: Debian packages, the agent's wheel, a kernel and its first stage.

`builder.build_guest` is the way in; README.md beside this package tells what comes out.
"""
