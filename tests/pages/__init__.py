"""What the Markdown pages say is true of the code: programs run, commands exist, links lead somewhere."""
