"""Read the schedules of other programs: crontabs and Moodle's list of scheduled tasks."""
