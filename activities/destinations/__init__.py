"""Where records are delivered: one file a destination, one registry that finds them."""
