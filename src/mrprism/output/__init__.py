"""What commands leave behind: files and folders that appear whole, progress on the way, the look of pages."""
