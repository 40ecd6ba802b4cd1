"""Fold the log into views: the hot queue that runners plan from, and report views for people and their tools."""
