"""The hosts of a lab, and the services that run on them."""
