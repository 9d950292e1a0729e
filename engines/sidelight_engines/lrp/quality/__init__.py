"""What is said of an explanation: how concentrated and how faithful it is."""
