"""What every room uses: the console, files, stamps, processes."""
