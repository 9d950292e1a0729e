"""Work that may outlast a call: kept on disk, run in slices behind the calls, and resumed after a restart."""
