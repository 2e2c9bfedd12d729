"""One file per arrow of the way of the data; stages never import each other."""
