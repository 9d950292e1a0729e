"""What evaluates models: ONNX Runtime and TensorFlow behind one protocol."""
