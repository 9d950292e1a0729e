"""The traced program of a walk, run over chunks of instances and targets."""
