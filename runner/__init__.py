"""Do the work: plan, claim, execute and report tasks; everything that runs as a process lives here."""
