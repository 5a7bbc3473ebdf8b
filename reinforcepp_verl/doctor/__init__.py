"""Checks what this machine can run; each check returns a finding and its fix. Imports `integration.cpu`, `common`."""
