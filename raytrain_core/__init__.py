"""What data_prep and raytrain both stand on: errors, object storage, reading a job file, hashing, quantities."""
