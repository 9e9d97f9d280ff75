"""The explorer: a page with a trained model in it, for a browser."""
