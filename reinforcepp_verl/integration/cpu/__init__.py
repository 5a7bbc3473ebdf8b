"""What verl 0.9.1 and vLLM need on a machine without an accelerator; has no effect on any other machine."""
