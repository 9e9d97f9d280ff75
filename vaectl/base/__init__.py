"""What all other parts stand on."""
