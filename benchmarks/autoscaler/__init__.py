"""The autoscaler's benchmark: Roost's policy beside the public ones, on a virtual clock. It opens no socket."""
