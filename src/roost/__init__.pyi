from roost._version import __version__ as __version__
from roost.client.asynchronous import AsyncRoost as AsyncRoost
from roost.client.sync import Roost as Roost
