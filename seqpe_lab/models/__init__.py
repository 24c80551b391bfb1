"""The main models. They use the interface of position encodings, not any particular encoding."""
