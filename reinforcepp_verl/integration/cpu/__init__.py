"""What verl 0.9.1 and vLLM need to run on a machine without an accelerator; inert on every other machine."""
