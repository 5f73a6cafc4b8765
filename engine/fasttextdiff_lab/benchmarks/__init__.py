"""Speed and memory of a model, each figure with its reference, measured in the same process."""
