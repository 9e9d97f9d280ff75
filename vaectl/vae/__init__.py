"""The variational auto-encoder, which joins a model and a likelihood."""
