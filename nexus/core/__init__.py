"""What travels between rooms: types, errors, checks, devices, files and weights."""
