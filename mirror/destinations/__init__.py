"""Where mirrors are written: the only code that touches what lies under a destination."""
