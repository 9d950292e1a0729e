"""A request, checked and with everything resolved that it left open."""
