"""The gRPC services, as the front process serves them."""
