"""verl's environment variable that selects the plugins to load: auto (all), none, or names."""

from __future__ import annotations

import os

POLICY_VARIABLE = "VERL_USE_EXTERNAL_PLUGINS"
PLUGIN_NAME = "reinforcepp"
"""The name of our entry point."""


def plugin_policy(given: object = None) -> str:
    """Return the policy: `given`, or else this process's, as verl reads it."""
    return str(os.environ.get(POLICY_VARIABLE, "auto") if given is None else given).strip().lower()


def allows_our_plugin(policy: str) -> bool:
    """Return True if verl loads our plugin under this policy."""
    return policy == "auto" or PLUGIN_NAME in (name.strip() for name in policy.split(","))
