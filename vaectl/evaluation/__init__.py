"""What a trained model is worth on a split."""
