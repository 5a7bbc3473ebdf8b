"""What this machine can run: each check gives one finding with its fix. Imports `common` and `integration.cpu`."""
