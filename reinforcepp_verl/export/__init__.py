"""A checkpoint of verl as a Hugging Face folder, and the proof that it holds the same model."""
