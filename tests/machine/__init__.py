"""A state machine over a server, a folder and everything that befalls either."""
