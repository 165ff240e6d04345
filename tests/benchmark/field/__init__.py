"""The proxies that onetrip is compared with, the load they get, and the table that comes of it."""
