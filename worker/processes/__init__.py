"""Several workers on one machine: started, watched and stopped together, with one port."""
