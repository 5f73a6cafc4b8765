"""The Segment Editor's effect "Text finding". Uses the panel's engine and rules; knows no section of the panel."""
