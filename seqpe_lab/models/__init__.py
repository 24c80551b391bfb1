"""The main models. They know the interface of a position encoding and nothing of any one method."""
