"""The methods as a worker runs them: decode, one call into the engines, encode. One file each."""
