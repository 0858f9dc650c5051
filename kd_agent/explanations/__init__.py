"""Why a policy acts as it does."""
