"""The parts of the FastTextDiffSegment module; none of them imports the engine, which runs in its own process."""
