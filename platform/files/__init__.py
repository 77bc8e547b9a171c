"""Files that prove themselves: written whole, read with a digest, in a folder or in an object store."""
