"""Generated stubs of the sidelight.v1 contract; `make proto` makes them anew."""
