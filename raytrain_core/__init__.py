"""What data_prep and raytrain share: errors, storage, configuration files, hashing, quantities."""
