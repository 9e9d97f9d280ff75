"""The variational auto-encoder itself, whatever its plugs."""
