"""Protobuf to the engines' dataclasses and back."""
