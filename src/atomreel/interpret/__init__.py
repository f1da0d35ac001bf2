"""Tables and pixels to tables and fields, without torch."""
