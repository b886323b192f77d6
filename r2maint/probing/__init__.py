"""Ask URLs and say what each answer means. Knows no rows, no database and no Django settings."""
