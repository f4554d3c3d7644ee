"""The balancer's benchmark: Roost's choice of a replica beside other routers', simulated and on real engines."""
