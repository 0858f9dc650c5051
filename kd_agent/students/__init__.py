"""Students: each file has `build(observations, head, normalizers, *, hidden, activation, dropout, seed)`."""
