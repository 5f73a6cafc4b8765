"""Speed and memory of a model, every figure beside the reference it is compared with, measured in the same process."""
