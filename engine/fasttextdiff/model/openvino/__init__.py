"""Runs a model with OpenVINO, without PyTorch. Only `networks` needs PyTorch, to convert a model once."""
