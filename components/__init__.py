"""What the lines are made of. Importing any of it keeps this machine's own addresses off proxies, and telemetry off."""

from components.loopback import bypass_proxies
from components.telemetry import turn_off

bypass_proxies()
turn_off()
