"""What the lines are made of. Importing any of it keeps this machine's own addresses off proxies."""

from components.loopback import bypass_proxies

bypass_proxies()
