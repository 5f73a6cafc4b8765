"""What the user sees and presses. Knows Qt; leaves the scene to `scene` and the model to `engine`."""
