"""Data sets as tensors of token numbers. This folder knows nothing of models."""
