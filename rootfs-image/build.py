"""Build the guest image: `python rootfs-image/build.py [--help]`. The work is in image_builder/."""

import sys

from image_builder.command import main

if __name__ == "__main__":
    sys.exit(main())
