"""A compute worker process; the front process starts it as `python -m sidelight_service.worker`."""

import sys

from sidelight_service.worker.loop import main

if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
