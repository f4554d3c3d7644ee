"""The autoscaler's benchmark: Roost's own policy beside the public ones, on a virtual clock. It never opens a socket."""
