"""The parts of the FastTextDiffSegment module; none of them imports the engine, which runs in a process of its own."""
