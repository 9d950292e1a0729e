"""Per-example gradients of a loss by a model's parameters, in factored form."""
