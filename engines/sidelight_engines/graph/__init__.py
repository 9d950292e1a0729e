"""Model files as graphs: one description for both formats, and the frozen TensorFlow form."""
