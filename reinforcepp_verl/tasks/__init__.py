"""The CPU tasks that this package generates: questions, tokenizer and a warm-started model.

Imports `data`, `rewards` and `common`.
"""

GENERATED = ("arithmetic", "calculator", "running_sums", "sums_by_size", "word_problems", "preferences_toy")
"""Names of the tasks: the task NAME is `TASK` in the module NAME_task."""
LANGUAGE_MODEL = "smollm2"
"""The folder of the real language model; that of one fine-tuned on TASK is LANGUAGE_MODEL_TASK."""
