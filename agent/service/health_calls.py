"""Kata's own health service: it works at any time and knows no policy."""

from __future__ import annotations

from agent.linux.blocking import run_blocking
from agent.service.agent import Agent
from agent.service.requests import AgentVersions, NoArguments
from agent.service.rules import Rules

_API_VERSION = "0.0.1"  # what the agents of both generations answer


async def check(agent: Agent, request: NoArguments, rules: Rules) -> bool:
    """The agent serves, or it could not answer."""
    return True


async def version(agent: Agent, request: NoArguments, rules: Rules) -> AgentVersions:
    """The versions of the API and of this agent."""
    return AgentVersions(api=_API_VERSION, agent=await run_blocking(agent_version))


def agent_version() -> str:
    """The version of the installed distribution. Reads the disk."""
    from importlib.metadata import version as installed_version  # not at start: costs memory and time

    return installed_version("pykata")
