"""Rule-based rewards of the shipped tasks."""
