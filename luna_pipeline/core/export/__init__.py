"""Trained networks in forms that run without this project: ONNX and torch.export."""
