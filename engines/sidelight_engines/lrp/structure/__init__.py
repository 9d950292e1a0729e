"""What is known of a graph before relevance goes through it: made ready, folded, and seen as linear steps."""
