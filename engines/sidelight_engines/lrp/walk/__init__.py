"""The backward walk: which rule each operation has, what relevance came, and the books."""
