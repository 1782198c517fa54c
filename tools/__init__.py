"""What the project runs on itself: generated pages and the data of the demo. Not part of the package."""
