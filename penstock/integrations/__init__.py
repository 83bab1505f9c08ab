"""What agents' frameworks keep, kept by Penstock: each module needs the extra of its name."""
