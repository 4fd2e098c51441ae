"""The Docker engine: images, Compose, one channel into a container, cleaning up."""
