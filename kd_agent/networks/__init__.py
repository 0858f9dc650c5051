"""What torch adds to a policy: densities, gradients, and the faces of teachers and students."""
