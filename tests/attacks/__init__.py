"""Programs that kill, freeze and edit real runs, each in a process of its own."""
