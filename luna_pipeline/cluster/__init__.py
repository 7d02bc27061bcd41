"""Ray sessions on this machine or a cluster, and cutting on Ray."""
