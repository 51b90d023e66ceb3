"""The console's routers, for ``api.app.create_app``."""

from edgeward.fleet.web import device, inventory, overview, sign_in, steer

ROUTERS = (sign_in.router, overview.router, inventory.router, device.router, steer.router)
