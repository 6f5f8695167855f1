"""Descriptions of heads, one sentence each, derived by rules from their salient operations and scores."""
