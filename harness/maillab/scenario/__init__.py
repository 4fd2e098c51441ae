"""The state of one scenario and the stream of events that it waits on."""
