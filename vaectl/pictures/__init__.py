"""What a run, a model and a comparison look like."""
