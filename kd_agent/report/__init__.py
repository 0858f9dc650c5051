"""Reports: each file has `write(folder, result)`."""
