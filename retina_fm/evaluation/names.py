"""Names that the command line knows before anything heavy is loaded, and names of files."""

PROTOCOLS = ("probe", "zero-shot", "few-shot", "supervised", "systemic", "retrieval", "vessels", "video")
"""What can be asked of a task."""
CLASSIFYING = ("probe", "zero-shot", "few-shot", "supervised", "systemic")
"""Those that judge classes."""


def file_name(text: str) -> str:
    """A name that any file system takes: letters, digits, dots, dashes."""
    return "".join(c if c.isalnum() or c in "-_." else "-" for c in text)
