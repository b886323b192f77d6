"""What to do about a verdict, in the sentences that several modules say."""

UPLOAD_AGAIN = "Upload the file again, or correct the value."
NAME_ANOTHER = "Name another address, or a copy of your own."
OPEN_IT = "Open it in a browser: see what visitors get."
RUN_AGAIN = "Run again later."
