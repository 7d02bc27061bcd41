"""Work on Ray: a session on this machine or on a cluster, and the cutting of many series there."""
