"""Is the student as good as its teacher?"""
