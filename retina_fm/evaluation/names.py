"""Names that the command line knows before anything heavy is loaded."""

PROTOCOLS = ("probe", "zero-shot", "few-shot", "supervised", "systemic", "retrieval", "vessels", "video")
"""What can be asked of a task."""
CLASSIFYING = ("probe", "zero-shot", "few-shot", "supervised", "systemic")
"""Those that judge classes."""
